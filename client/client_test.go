package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

const patience = 20 * time.Second

func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited too long for %s", what)
		panic("unreachable")
	}
}

func soon(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// online brings a device with the demo clip online until the test ends.
func online(t testing.TB, s *rendezvoustest.Server, change func(*device.Config)) *device.Device {
	t.Helper()
	c := device.Config{
		Server: s.URL, License: rendezvoustest.License, ClientID: "x",
		Streams: []device.Stream{{ID: 0, Codec: device.H264}, {ID: 1, Codec: device.ALaw}},
	}
	if change != nil {
		change(&c)
	}
	d, err := device.New(c)
	if err != nil {
		t.Fatal(err)
	}
	video, err := os.ReadFile("../cmd/turnpike/demo/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile("../cmd/turnpike/demo/clip.alaw")
	if err != nil {
		t.Fatal(err)
	}
	clip, err := device.NewClip(video, 25, sound)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { d.Run(ctx) })
	work.Go(func() { clip.Play(ctx, d, 0, 1) })
	t.Cleanup(func() {
		cancel()
		work.Wait()
	})
	wait(t, s.Online, "the device to come online")
	return d
}

func conn(t testing.TB, c client.Config) *client.Conn {
	t.Helper()
	v, err := client.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

// pictures attaches an output that passes on each picture.
func pictures(t testing.TB, v *client.Conn, stream uint8) <-chan client.VideoFrame {
	t.Helper()
	got := make(chan client.VideoFrame, 4096)
	if err := v.Attach(stream, client.VideoOutput(func(f client.VideoFrame) { got <- f })); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestStatesFollowTheConnection(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	var mu sync.Mutex
	var states []client.State
	v := conn(t, client.Config{Server: s.URL, OnState: func(st client.State, cause error) {
		mu.Lock()
		defer mu.Unlock()
		states = append(states, st)
		if cause != nil {
			t.Errorf("%v: %v", st, cause)
		}
	}})
	if v.State() != client.Idle {
		t.Errorf("new connection is %v", v.State())
	}
	for range 2 { // it can be used again
		if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
			t.Fatal(err)
		}
		if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); !errors.Is(err, client.ErrConnected) {
			t.Errorf("second Connect: %v", err)
		}
		v.Close()
		v.Close()
	}
	mu.Lock()
	defer mu.Unlock()
	once := []client.State{client.Connecting, client.Connected, client.Disconnected}
	if want := append(once, once...); !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	if got := s.Deleted(); len(got) != 2 {
		t.Errorf("deleted sessions %v, want both", got)
	}
}

func TestErrorsCarryTheServersCode(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
	}{{401, "token_refused"}, {401, "token_expired"}, {403, "forbidden"}, {404, "device_offline"}, {429, "too_many_failures"}, {503, "draining"}} {
		s := rendezvoustest.Start(t)
		s.Refuse(c.status, c.code)
		var cause error
		v := conn(t, client.Config{Server: s.URL, OnState: func(st client.State, err error) { cause = err }})
		err := v.Connect(soon(t), rendezvoustest.DeviceID, "v1.a-secret.token")
		var no *client.Error
		if !errors.As(err, &no) || no.Status != c.status || no.Code != c.code || no.Detail != "said by the test" {
			t.Errorf("%s: got %v", c.code, err)
		}
		if !errors.As(cause, &no) || v.State() != client.Disconnected {
			t.Errorf("%s: state %v, cause %v", c.code, v.State(), cause)
		}
		if strings.Contains(err.Error(), "a-secret") {
			t.Errorf("the token is in the error: %v", err)
		}
	}
}

func TestConnectRefusesWhatIsNoDevice(t *testing.T) {
	v := conn(t, client.Config{Server: "http://127.0.0.1:1"})
	for _, id := range []string{"", "http://x", "a b", "device://", strings.Repeat("x", 33)} {
		if err := v.Connect(soon(t), id, "t"); err == nil {
			t.Errorf("%q: accepted", id)
		}
	}
	if err := v.Connect(soon(t), "AABB", "t"); err == nil || v.State() != client.Disconnected {
		t.Errorf("no server there: %v, %v", err, v.State())
	}
	for _, server := range []string{"", "turnpike.example.com", "ws://x"} {
		if _, err := client.New(client.Config{Server: server}); err == nil {
			t.Errorf("server %q: accepted", server)
		}
	}
}

func TestForeignAnswersAreErrors(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"HTML":               func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); io.WriteString(w, "<html>") },
		"200 instead of 201": func(w http.ResponseWriter, _ *http.Request) {},
		"no location":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) },
		"no SDP": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/x")
			w.WriteHeader(201)
			io.WriteString(w, "hello")
		},
		"endless": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/x")
			w.WriteHeader(201)
			io.WriteString(w, strings.Repeat("x", 100_000))
		},
	} {
		h := httptest.NewServer(answer)
		v := conn(t, client.Config{Server: h.URL})
		if err := v.Connect(soon(t), "AABB", "t"); err == nil {
			t.Errorf("%s: accepted", name)
		}
		h.Close()
	}
}

func TestCloseEndsAConnectUnderWay(t *testing.T) {
	asked := make(chan struct{}, 1)
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // the server sees a client leave only behind the body
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer h.Close()
	v := conn(t, client.Config{Server: h.URL})
	done := make(chan error, 1)
	go func() { done <- v.Connect(context.Background(), "AABB", "t") }()
	wait(t, asked, "the request")
	v.Close()
	if err := wait(t, done, "Connect"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNothingWorksUnconnected(t *testing.T) {
	v := conn(t, client.Config{Server: "http://127.0.0.1:1"})
	for name, err := range map[string]error{
		"command":     v.SendCommand(0x2000, nil),
		"message":     v.SendMessage(client.Message{}),
		"key frame":   v.RequestKeyFrame(0),
		"subscribe":   v.Subscribe(soon(t), 0),
		"unsubscribe": v.Unsubscribe(soon(t), 0),
	} {
		if !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAttachAndDetachWhileConnected(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	streams, refused := make(chan []client.Stream, 64), make(chan error, 4)
	v := conn(t, client.Config{
		Server:    s.URL,
		OnStreams: func(list []client.Stream) { streams <- list },
		OnRefused: func(_ uint8, cause error) { refused <- cause },
	})
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, streams, "the streams"); len(got) != 2 || got[0] != (client.Stream{ID: 0, Codec: client.H264}) || got[1].Codec != client.ALaw {
		t.Errorf("streams %+v", got)
	}
	got := pictures(t, v, 0) // there is no media section at all so far
	if f := wait(t, got, "a picture"); !f.Key {
		t.Error("the first picture is no key frame")
	}
	sound := make(chan client.AudioFrame, 4096)
	if err := v.Attach(1, client.AudioOutput(func(f client.AudioFrame) { sound <- f })); err != nil {
		t.Fatal(err)
	}
	wait(t, sound, "sound")
	if err := v.Attach(1, client.AudioOutput(func(client.AudioFrame) {})); !errors.Is(err, client.ErrInUse) {
		t.Errorf("a second output: %v", err)
	}
	v.Detach(0)
	for { // the device says when it has stopped
		list := wait(t, streams, "the stream to stop")
		if !list[0].Sending && list[1].Sending {
			break
		}
	}
	again := pictures(t, v, 0)
	if f := wait(t, again, "a picture of the new output"); !f.Key {
		t.Error("the new output's first picture is no key frame")
	}
	if err := v.Attach(9, client.VideoOutput(func(client.VideoFrame) {})); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, refused, "the refusal"); !errors.Is(err, client.ErrNoStream) {
		t.Errorf("got %v, want ErrNoStream", err)
	}
}

func TestResumesWithTheTicket(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	states := make(chan client.State, 16)
	v := conn(t, client.Config{Server: s.URL, OnState: func(st client.State, _ error) { states <- st }})
	got := pictures(t, v, 0)
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	before := wait(t, got, "a picture")
	s.Tell(signal.End{Session: "session-1", Reason: "test"})
	for _, want := range []client.State{client.Connecting, client.Connected, client.Connecting, client.Connected} {
		if st := wait(t, states, "the state"); st != want {
			t.Fatalf("state %v, want %v", st, want)
		}
	}
	for {
		f := wait(t, got, "a picture of the second session")
		if f.Key && f.Timestamp > before.Timestamp {
			break
		}
	}
	if n := s.Sessions(); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

func TestResumesAfterTheNetworkWasLost(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	states := make(chan client.State, 16)
	line := rendezvoustest.NewLine(t, 10_000_000)
	s.Rewrite(rendezvoustest.HideCandidates, line.Enter)
	v := conn(t, client.Config{Server: s.URL, OnState: func(st client.State, _ error) { states <- st }})
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	s.Rewrite(nil, nil)
	begin := time.Now()
	line.Cut()
	for _, want := range []client.State{client.Connecting, client.Connected, client.Connecting, client.Connected} {
		if st := wait(t, states, "the state"); st != want {
			t.Fatalf("state %v, want %v", st, want)
		}
	}
	t.Logf("connected again %v after the cut", time.Since(begin).Round(10*time.Millisecond))
}

func TestGivesUpWhenTheTicketIsRefused(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	type change struct {
		state client.State
		cause error
	}
	changes := make(chan change, 16)
	v := conn(t, client.Config{Server: s.URL, OnState: func(st client.State, cause error) { changes <- change{st, cause} }})
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	s.Refuse(401, "token_refused")
	s.Tell(signal.End{Session: "session-1", Reason: "revoked"})
	for {
		c := wait(t, changes, "the end")
		if c.state != client.Disconnected {
			continue
		}
		var no *client.Error
		if !errors.Is(c.cause, client.ErrLost) || !errors.As(c.cause, &no) || no.Code != "token_refused" {
			t.Errorf("cause is %v", c.cause)
		}
		return
	}
}

func TestDoesNotResumeWhenToldSo(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	causes := make(chan error, 16)
	v := conn(t, client.Config{Server: s.URL, NoResume: true, OnState: func(st client.State, cause error) {
		if st == client.Disconnected {
			causes <- cause
		}
	}})
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	s.Tell(signal.End{Session: "session-1", Reason: "test"})
	if err := wait(t, causes, "the end"); !errors.Is(err, client.ErrLost) {
		t.Errorf("cause is %v", err)
	}
}

// slowSTUN answers binding requests after a while, always with the same address.
func slowSTUN(t testing.TB) string {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFromUDP(buf)
			if err != nil {
				return
			}
			request := &stun.Message{Raw: bytes.Clone(buf[:n])}
			if request.Decode() != nil {
				continue
			}
			answer, err := stun.Build(request, stun.BindingSuccess, &stun.XORMappedAddress{IP: net.IPv4(192, 0, 2, 9), Port: 999})
			if err != nil {
				continue
			}
			work.Go(func() {
				time.Sleep(200 * time.Millisecond) // the server is slow: this is no synchronisation
				c.WriteToUDP(answer.Raw, from)
			})
		}
	})
	t.Cleanup(func() {
		c.Close()
		work.Wait()
	})
	return "stun:" + c.LocalAddr().String()
}

func TestTricklesLateCandidates(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	v := conn(t, client.Config{Server: s.URL, ICEServers: []client.ICEServer{{URLs: []string{slowSTUN(t)}}}})
	begin := time.Now()
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("connecting waited %v for a slow STUN server", took)
	}
	for !strings.Contains(wait(t, s.Trickled, "the late candidate"), " 192.0.2.9 999 typ srflx") {
	}
}

func TestSlowOutputHoldsUpNoOther(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	v := conn(t, client.Config{Server: s.URL})
	hold, held := make(chan struct{}), make(chan struct{}, 1)
	sound := make(chan client.AudioFrame, 4096)
	if err := v.Attach(1, client.AudioOutput(func(f client.AudioFrame) {
		select {
		case held <- struct{}{}:
		default:
		}
		<-hold
		sound <- f
	})); err != nil {
		t.Fatal(err)
	}
	got := pictures(t, v, 0)
	if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
	wait(t, held, "the output to be busy")
	for range 80 {
		if f := wait(t, got, "a picture"); f.Discontinuity {
			t.Error("a picture is missing")
		}
	}
	close(hold)
	wait(t, sound, "sound")
}

func TestNothingIsLeft(t *testing.T) {
	s := rendezvoustest.Start(t)
	online(t, s, nil)
	cycle := func() {
		v := conn(t, client.Config{Server: s.URL})
		got := pictures(t, v, 0)
		if err := v.Connect(soon(t), rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
			t.Fatal(err)
		}
		wait(t, got, "a picture")
		v.Close()
	}
	cycle()
	before := runtime.NumGoroutine()
	for range 20 {
		cycle()
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before+3; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
