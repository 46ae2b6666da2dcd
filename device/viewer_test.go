package device_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

func TestNewViewerBeginsAtTheKeyFrameAndIsNotLate(t *testing.T) {
	s := rendezvoustest.Start(t)
	d := start(t, s, config(s))
	units := clipUnits(t)
	for i, u := range units[:40] { // 40 frames into a group of 50
		if err := d.Send(0, device.Frame{TimestampMs: uint32(i * 40), Data: u}); err != nil {
			t.Fatal(err)
		}
	}
	v := newViewer(t, client.Config{Server: s.URL})
	v.watch(t)
	v.connect(t)
	eventually(t, "the group has come", func() bool { video, _ := v.frames(); return len(video) == 40 })
	if err := d.Send(0, device.Frame{TimestampMs: 40 * 40, Data: units[40]}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next frame has come", func() bool { video, _ := v.frames(); return len(video) == 41 })
	video, _ := v.frames()
	if !video[0].Key {
		t.Error("the first frame is no key frame")
	}
	for i, f := range video[:40] {
		if want := video[0].Timestamp + time.Duration(i)*time.Millisecond; (f.Timestamp - want).Abs() > time.Millisecond/10 {
			t.Fatalf("frame %d is due at %v, want %v", i, f.Timestamp, want)
		}
	}
	if step := video[40].Timestamp - video[39].Timestamp; step != 40*time.Millisecond {
		t.Errorf("the first new frame is due %v after the last old one, want 40ms", step)
	}
}

func TestManyViewersGetEverything(t *testing.T) {
	const viewers = 8
	s := rendezvoustest.Start(t)
	d := start(t, s, config(s))
	play(t, d)
	var all []*viewer
	for range viewers {
		v := newViewer(t, client.Config{Server: s.URL})
		v.watch(t)
		all = append(all, v)
	}
	errs := make(chan error, viewers)
	for _, v := range all {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			errs <- v.Connect(ctx, rendezvoustest.DeviceID, rendezvoustest.Token)
		}()
	}
	for range viewers {
		if err := wait(t, errs, "a viewer to connect"); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range all {
		eventually(t, fmt.Sprintf("viewer %d has 75 pictures", i), func() bool { video, _ := v.frames(); return len(video) >= 75 })
		video, _ := v.frames()
		var stream []byte
		for j, f := range video {
			if f.Discontinuity {
				t.Errorf("viewer %d misses pictures before %d", i, j)
			}
			stream = append(stream, f.Data...)
		}
		decodes(t, stream, len(video))
	}
	if n := len(d.Viewers()); n != viewers {
		t.Errorf("%d viewers, want %d", n, viewers)
	}
}

func TestCommandsAndMessagesBothWays(t *testing.T) {
	type command struct {
		word    uint32
		payload string
	}
	s := rendezvoustest.Start(t)
	c := config(s)
	toDevice, toClient := make(chan command, 16), make(chan command, 16)
	messages, answers := make(chan device.Message, 16), make(chan client.Message, 16)
	var running atomic.Bool
	c.OnSessionStart = func(v *device.Viewer) {
		if v.Subject() != "user-17" || v.Relayed() {
			t.Errorf("subject %q, relayed %v", v.Subject(), v.Relayed())
		}
		running.Store(true)
	}
	c.OnCommand = func(v *device.Viewer, word uint32, payload []byte) {
		if !running.Load() {
			t.Error("a command came before the session")
		}
		toDevice <- command{word, string(payload)}
		if err := v.SendCommand(word, payload); err != nil {
			t.Errorf("cannot echo: %v", err)
		}
	}
	c.OnMessage = func(v *device.Viewer, m device.Message) { messages <- m }
	d := start(t, s, c)
	v := newViewer(t, client.Config{
		Server:    s.URL,
		OnCommand: func(word uint32, payload []byte) { toClient <- command{word, string(payload)} },
		OnMessage: func(m client.Message) { answers <- m },
	})
	v.connect(t)
	large := strings.Repeat("x", signal.MaxCommandPayload)
	for _, want := range []command{
		{0x2000, ""}, {0x2001, "hang up"}, {0x8000, "a"}, {0xffff, "b"}, {0x10000, "c"}, {0x10002, "d"},
		{0x54524343, "e"}, {0xffffffff, large},
	} {
		if err := v.SendCommand(want.word, []byte(want.payload)); err != nil {
			t.Fatal(err)
		}
		if got := wait(t, toDevice, "the command"); got != want {
			t.Errorf("device got %#x with %d bytes, want %#x", got.word, len(got.payload), want.word)
		}
		if got := wait(t, toClient, "its echo"); got != want {
			t.Errorf("client got %#x with %d bytes, want %#x", got.word, len(got.payload), want.word)
		}
	}
	for _, word := range []uint32{0, 1, 0x1fff} {
		if err := v.SendCommand(word, nil); !errors.Is(err, client.ErrReserved) {
			t.Errorf("client sends reserved word %#x: %v", word, err)
		}
		if _, err := d.SendCommand(word, nil); !errors.Is(err, device.ErrReserved) {
			t.Errorf("device sends reserved word %#x: %v", word, err)
		}
	}
	if err := v.SendCommand(0x2000, []byte(large+"y")); !errors.Is(err, client.ErrTooLarge) {
		t.Errorf("client sends too much: %v", err)
	}
	if _, err := d.SendCommand(0x2000, []byte(large+"y")); !errors.Is(err, device.ErrTooLarge) {
		t.Errorf("device sends too much: %v", err)
	}
	if err := v.SendMessage(client.Message{Stream: 12, Flags: 3, TimestampMs: 4294967295, Payload: []byte("box")}); err != nil {
		t.Fatal(err)
	}
	if m := wait(t, messages, "the message"); m.Stream != 12 || m.Flags != 3 || m.TimestampMs != 4294967295 || string(m.Payload) != "box" {
		t.Errorf("device got %+v", m)
	}
	if n, err := d.SendMessage(device.Message{Stream: 0, TimestampMs: 7, Payload: []byte("all")}); n != 1 || err != nil {
		t.Errorf("reached %d, %v", n, err)
	}
	if m := wait(t, answers, "the device's message"); m.Stream != 0 || m.TimestampMs != 7 || string(m.Payload) != "all" {
		t.Errorf("client got %+v", m)
	}
}

func TestSixteenKilohertzALawArrivesAsG722(t *testing.T) {
	s := rendezvoustest.Start(t)
	c := config(s)
	c.Streams = []device.Stream{{ID: 10, Codec: device.ALaw16}}
	d := start(t, s, c)
	got := make(chan client.AudioFrame, 64)
	v := newViewer(t, client.Config{Server: s.URL})
	if err := v.Attach(10, client.AudioOutput(func(f client.AudioFrame) { got <- f })); err != nil {
		t.Fatal(err)
	}
	v.connect(t)
	sound := bytes.Repeat([]byte{0x55, 0xd5, 0x2a, 0xaa, 0x11}, 64)
	encoder := media.NewG722Encoder()
	var sent [][]byte // pieces as they should arrive; the first may be too early for the viewer
	arrived := 0
	for i := 0; arrived < 10; i++ {
		if i == 500 {
			t.Fatalf("%d pieces arrived of %d", arrived, i)
		}
		if err := d.Send(10, device.Frame{TimestampMs: uint32(i * 20), Data: sound}); err != nil {
			t.Fatal(err)
		}
		sent = append(sent, encoder.EncodeALaw(nil, sound))
		select {
		case f := <-got:
			for arrived == 0 && len(sent) > 1 && !bytes.Equal(f.Data, sent[0]) {
				sent = sent[1:]
			}
			if f.Codec != client.G722 || !bytes.Equal(f.Data, sent[0]) {
				t.Fatalf("piece %d: %s, %d octets", i, f.Codec, len(f.Data))
			}
			sent, arrived = sent[1:], arrived+1
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestRefusesSubscriptionWithAReason(t *testing.T) {
	s := rendezvoustest.Start(t)
	c := config(s)
	var allow atomic.Bool
	c.OnSubscribe = func(_ *device.Viewer, stream uint8) error {
		if stream == 0 && !allow.Load() {
			return errors.New("the camera is private now")
		}
		return nil
	}
	left := make(chan uint8, 1)
	c.OnUnsubscribe = func(_ *device.Viewer, stream uint8) { left <- stream }
	d := start(t, s, c)
	play(t, d)
	refused := make(chan uint8, 1)
	v := newViewer(t, client.Config{Server: s.URL, OnRefused: func(stream uint8, cause error) {
		if !errors.Is(cause, client.ErrSubscription) {
			t.Errorf("cause is %v", cause)
		}
		refused <- stream
	}})
	v.watch(t)
	v.connect(t)
	if id := wait(t, refused, "the refusal"); id != 0 {
		t.Errorf("stream %d is refused", id)
	}
	eventually(t, "sound comes", func() bool { _, audio := v.frames(); return len(audio) > 10 })
	if video, _ := v.frames(); len(video) > 0 {
		t.Errorf("%d pictures of a refused stream", len(video))
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := v.Subscribe(ctx, 1); err != nil {
		t.Errorf("a stream that is sent: %v", err)
	}
	allow.Store(true)
	if err := v.Subscribe(ctx, 0); err != nil { // needs a new media section
		t.Fatal(err)
	}
	eventually(t, "pictures come", func() bool { video, _ := v.frames(); return len(video) > 10 })
	if err := v.Unsubscribe(ctx, 0); err != nil {
		t.Fatal(err)
	}
	if id := wait(t, left, "OnUnsubscribe"); id != 0 {
		t.Errorf("stream %d was left", id)
	}
	allow.Store(false)
	if err := v.Subscribe(ctx, 0); !errors.Is(err, client.ErrSubscription) || !strings.Contains(err.Error(), "private") {
		t.Errorf("got %v, want the device's reason", err)
	}
	allow.Store(true)
	before, _ := v.frames()
	if err := v.Subscribe(ctx, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pictures come again", func() bool { video, _ := v.frames(); return len(video) > len(before)+10 })
}

func TestBusyWhenFull(t *testing.T) {
	s := rendezvoustest.Start(t)
	c := config(s)
	c.MaxViewers = 1
	ended := make(chan string, 4)
	c.OnSessionEnd = func(_ *device.Viewer, why string) { ended <- why }
	start(t, s, c)
	first := newViewer(t, client.Config{Server: s.URL})
	first.connect(t)
	second := newViewer(t, client.Config{Server: s.URL})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := second.Connect(ctx, rendezvoustest.DeviceID, rendezvoustest.Token)
	var no *client.Error
	if !errors.As(err, &no) || no.Code != "device_refused" {
		t.Fatalf("got %v, want device_refused", err)
	}
	first.Close()
	wait(t, ended, "the first to end")
	second.connect(t)
}

func TestFirstFrameMustBeAKeyFrame(t *testing.T) {
	units := clipUnits(t)
	d, err := device.New(device.Config{
		Server: "http://localhost:1", License: rendezvoustest.License, ClientID: "x",
		Streams: []device.Stream{{ID: 0, Codec: device.H264}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var idrAlone []byte
	for nal := range media.NALs(units[0]) {
		if media.TypeOf(nal) == media.NALIDR {
			idrAlone = append([]byte{0, 0, 0, 1}, nal...)
		}
	}
	for _, step := range []struct {
		name   string
		stream uint8
		frame  device.Frame
		want   error
	}{
		{"no such stream", 9, device.Frame{Data: units[0]}, device.ErrNoStream},
		{"delta first", 0, device.Frame{Data: units[1]}, device.ErrNeedsKeyFrame},
		{"IDR without parameter sets first", 0, device.Frame{Key: true, Data: idrAlone}, device.ErrNeedsKeyFrame},
		{"nothing", 0, device.Frame{}, device.ErrFrame},
		{"no Annex-B", 0, device.Frame{Data: []byte("a picture")}, device.ErrFrame},
		{"key frame", 0, device.Frame{Key: true, Data: units[0]}, nil},
		{"delta", 0, device.Frame{Data: units[1]}, nil},
		{"delta that says it is a key frame", 0, device.Frame{Key: true, Data: units[1]}, device.ErrFrame},
		{"IDR without parameter sets later", 0, device.Frame{Key: true, Data: idrAlone}, nil},
	} {
		if err := d.Send(step.stream, step.frame); !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.name, err, step.want)
		}
	}
}

func TestKeyFrameRequestsAreCoalesced(t *testing.T) {
	s := rendezvoustest.Start(t)
	c := config(s)
	asked := make(chan uint8, 1000)
	c.OnKeyFrameRequest = func(stream uint8) { asked <- stream }
	d := start(t, s, c)
	play(t, d)
	v := newViewer(t, client.Config{Server: s.URL})
	v.watch(t)
	v.connect(t)
	for len(asked) > 0 {
		<-asked
	}
	begin := time.Now()
	for range 100 {
		if err := v.RequestKeyFrame(0); err != nil {
			t.Fatal(err)
		}
	}
	if id := wait(t, asked, "the request"); id != 0 {
		t.Errorf("request for stream %d", id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := v.Subscribe(ctx, 0); err != nil { // all requests have been read when this is answered
		t.Fatal(err)
	}
	if most := int(time.Since(begin)/(500*time.Millisecond)) + 1; len(asked) > most {
		t.Errorf("%d more requests of 99 reached the application", len(asked))
	}
}

func TestNothingIsLeftAfterManySessions(t *testing.T) {
	cycles := 200
	if testing.Short() {
		cycles = 20
	}
	s := rendezvoustest.Start(t)
	c := config(s)
	ended := make(chan string, cycles)
	c.OnSessionEnd = func(_ *device.Viewer, why string) { ended <- why }
	d := start(t, s, c)
	play(t, d)
	once := func() time.Duration {
		v := newViewer(t, client.Config{Server: s.URL})
		first := make(chan struct{}, 1)
		if err := v.Attach(0, client.VideoOutput(func(client.VideoFrame) {
			select {
			case first <- struct{}{}:
			default:
			}
		})); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		v.connect(t)
		wait(t, first, "the first picture")
		took := time.Since(begin)
		v.Close()
		if why := wait(t, ended, "the session to end"); why != "ended" && why != "remote" {
			t.Fatalf("session ended: %s", why)
		}
		return took
	}
	once()
	before := runtime.NumGoroutine()
	var latency []time.Duration
	for range cycles {
		latency = append(latency, once())
	}
	eventually(t, "goroutines are back", func() bool { return runtime.NumGoroutine() <= before+3 })
	slices.Sort(latency)
	t.Logf("connect to first picture: p50 %v, p99 %v of %d; goroutines %d before, %d after",
		latency[len(latency)/2].Round(100*time.Microsecond), latency[len(latency)*99/100].Round(100*time.Microsecond),
		cycles, before, runtime.NumGoroutine())
	if n := len(d.Viewers()); n != 0 {
		t.Errorf("%d viewers are left", n)
	}
}
