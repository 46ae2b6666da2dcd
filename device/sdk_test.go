package device_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
)

const patience = 20 * time.Second

// wait receives from c, or ends the test.
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

// eventually polls until ok, or ends the test.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func clipUnits(t testing.TB) [][]byte {
	t.Helper()
	b, err := os.ReadFile("../cmd/turnpike/demo/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	units, err := media.AccessUnits(b)
	if err != nil {
		t.Fatal(err)
	}
	return units
}

// config is that of a test device with video 0 and sound 1.
func config(s *rendezvoustest.Server) device.Config {
	return device.Config{
		Server: s.URL, License: rendezvoustest.License, ClientID: "00:11:22:33:44:55",
		Streams: []device.Stream{{ID: 0, Codec: device.H264}, {ID: 1, Codec: device.ALaw}},
	}
}

// start brings a device online; the test's end stops it and waits.
func start(t testing.TB, s *rendezvoustest.Server, c device.Config) *device.Device {
	t.Helper()
	d, err := device.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := wait(t, done, "the device to stop"); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	})
	wait(t, s.Online, "the device to come online")
	return d
}

// play sends the clip until the test ends.
func play(t testing.TB, d *device.Device) {
	t.Helper()
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
	done := make(chan error, 1)
	go func() { done <- clip.Play(ctx, d, 0, 1) }()
	t.Cleanup(func() {
		cancel()
		if err := wait(t, done, "the clip to stop"); !errors.Is(err, context.Canceled) {
			t.Errorf("Play ended with %v", err)
		}
	})
}

// viewer is a client that keeps what it gets.
type viewer struct {
	*client.Conn
	mu    sync.Mutex
	video []client.VideoFrame
	audio []client.AudioFrame
}

func newViewer(t testing.TB, c client.Config) *viewer {
	t.Helper()
	conn, err := client.New(c)
	if err != nil {
		t.Fatal(err)
	}
	v := &viewer{Conn: conn}
	t.Cleanup(func() { v.Close() })
	return v
}

// watch attaches outputs that keep the frames of streams 0 and 1.
func (v *viewer) watch(t testing.TB) {
	t.Helper()
	err := errors.Join(
		v.Attach(0, client.VideoOutput(func(f client.VideoFrame) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.video = append(v.video, f)
		})),
		v.Attach(1, client.AudioOutput(func(f client.AudioFrame) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.audio = append(v.audio, f)
		})))
	if err != nil {
		t.Fatal(err)
	}
}

func (v *viewer) connect(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := v.Connect(ctx, "device://"+rendezvoustest.DeviceID, rendezvoustest.Token); err != nil {
		t.Fatal(err)
	}
}

func (v *viewer) frames() ([]client.VideoFrame, []client.AudioFrame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.video), slices.Clone(v.audio)
}

// decodes asserts that ffmpeg makes as many pictures of an H.264 stream as it has
// access units, without a complaint.
func decodes(t testing.TB, stream []byte, want int) {
	t.Helper()
	path, err := exec.LookPath("ffmpeg")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("ffmpeg is missing, and CI is set")
	}
	if err != nil {
		t.Log("NOT TESTED whether the frames decode: ffmpeg is missing")
		return
	}
	cmd := exec.Command(path, "-v", "error", "-f", "h264", "-i", "-", "-vsync", "passthrough", "-f", "framecrc", "-")
	cmd.Stdin = bytes.NewReader(stream)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffmpeg: %v: %s", err, complaints.String())
	}
	pictures := 0
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "0,") {
			pictures++
		}
	}
	if pictures != want || complaints.Len() > 0 {
		t.Errorf("ffmpeg decoded %d pictures of %d: %s", pictures, want, complaints.String())
	}
}

func TestViewerGetsPictureAndSound(t *testing.T) {
	s := rendezvoustest.Start(t)
	d := start(t, s, config(s))
	play(t, d)
	v := newViewer(t, client.Config{Server: s.URL})
	v.watch(t)
	begin := time.Now()
	v.connect(t)
	t.Logf("connected after %v", time.Since(begin).Round(time.Millisecond))
	eventually(t, "100 pictures and 100 pieces of sound have come", func() bool {
		video, audio := v.frames()
		return len(video) >= 100 && len(audio) >= 100
	})
	video, audio := v.frames()
	var stream []byte
	for i, f := range video {
		if i == 0 && !f.Key || f.Discontinuity || f.Stream != 0 || f.Codec != client.H264 {
			t.Fatalf("picture %d: key %v, discontinuity %v", i, f.Key, f.Discontinuity)
		}
		if i > 0 && f.Timestamp <= video[i-1].Timestamp {
			t.Fatalf("picture %d is due at %v, the one before at %v", i, f.Timestamp, video[i-1].Timestamp)
		}
		stream = append(stream, f.Data...)
	}
	decodes(t, stream, len(video))
	for i, f := range audio {
		if len(f.Data) != 160 || f.Discontinuity || f.Codec != client.ALaw || i > 0 && f.Timestamp-audio[i-1].Timestamp != 20*time.Millisecond {
			t.Fatalf("piece %d of sound: %d octets at %v, discontinuity %v", i, len(f.Data), f.Timestamp, f.Discontinuity)
		}
	}
}
