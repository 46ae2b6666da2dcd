package device_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// hooks returns a configuration whose callbacks feed the channels.
func hooks(s *rendezvoustest.Server) (c device.Config, offline chan error, ended chan string) {
	c = config(s)
	offline, ended = make(chan error, 64), make(chan string, 64)
	c.OnOffline = func(err error) { offline <- err }
	c.OnSessionEnd = func(_ *device.Viewer, why string) { ended <- why }
	return c, offline, ended
}

func TestRunSaysWhatIsWrongWithTheConfiguration(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*rendezvoustest.Server, *device.Config)
		want   error
	}{
		{"wrong secret", func(_ *rendezvoustest.Server, c *device.Config) { c.License += "x" }, device.ErrRefused},
		{"other device id", func(_ *rendezvoustest.Server, c *device.Config) { c.License = "OTHER," + rendezvoustest.Secret }, device.ErrRefused},
		{"other client id", func(s *rendezvoustest.Server, _ *device.Config) { s.ClientID = "another" }, device.ErrClientID},
		{"server that is not genuine", func(s *rendezvoustest.Server, _ *device.Config) { s.BadProof = true }, device.ErrServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := rendezvoustest.Start(t)
			conf := config(s)
			c.change(s, &conf)
			d, err := device.New(conf)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := d.Run(ctx); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestNewRefusesBadConfiguration(t *testing.T) {
	good := device.Config{
		Server: "https://turnpike.example.com", License: rendezvoustest.License, ClientID: "x",
		Streams: []device.Stream{{ID: 0, Codec: device.H264}},
	}
	if _, err := device.New(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*device.Config){
		"no server":          func(c *device.Config) { c.Server = "" },
		"server scheme":      func(c *device.Config) { c.Server = "ftp://example.com" },
		"license":            func(c *device.Config) { c.License = "AABB" },
		"no client id":       func(c *device.Config) { c.ClientID = "" },
		"no streams":         func(c *device.Config) { c.Streams = nil },
		"unknown codec":      func(c *device.Config) { c.Streams = []device.Stream{{ID: 0, Codec: "theora"}} },
		"G722 as a source":   func(c *device.Config) { c.Streams = []device.Stream{{ID: 0, Codec: "G722"}} },
		"two of the same id": func(c *device.Config) { c.Streams = append(c.Streams, c.Streams[0]) },
	} {
		c := good
		change(&c)
		if _, err := device.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSessionsOutliveTheServer(t *testing.T) {
	t.Parallel()
	s := rendezvoustest.Start(t)
	s.Lease = 60
	c, offline, ended := hooks(s)
	d := start(t, s, c)
	play(t, d)
	v := newViewer(t, client.Config{Server: s.URL})
	v.watch(t)
	v.connect(t)
	s.Drop()
	wait(t, offline, "the loss to be noticed")
	again := wait(t, s.Online, "the device to come back")
	if got := again.Hello.Sessions; len(got) != 1 || got[0] != "session-1" {
		t.Errorf("comes back with sessions %v, want session-1", got)
	}
	before, _ := v.frames()
	eventually(t, "pictures still come", func() bool { video, _ := v.frames(); return len(video) > len(before)+10 })
	for i, f := range before {
		if f.Discontinuity {
			t.Errorf("a picture is missing before %d", i)
		}
	}
	s.Tell(signal.End{Session: "session-1", Reason: "revoked"})
	if why := wait(t, ended, "the session to end"); why != "ended" {
		t.Errorf("session ended: %s", why)
	}
}

func TestSessionsEndWithTheLease(t *testing.T) {
	t.Parallel()
	s := rendezvoustest.Start(t)
	s.Lease = 1
	c, _, ended := hooks(s)
	start(t, s, c)
	v := newViewer(t, client.Config{Server: s.URL, NoResume: true})
	v.connect(t)
	begin := time.Now()
	s.CloseDevice(signal.CloseReplaced, "replaced") // stays away for 15 seconds at least
	if why := wait(t, ended, "the session to end"); why != "failed" {
		t.Errorf("session ended: %s", why)
	}
	if took := time.Since(begin); took < 900*time.Millisecond || took > 5*time.Second {
		t.Errorf("after %v, want about a second", took)
	}
}

func TestDrainBringsTheDeviceBackWithItsSessions(t *testing.T) {
	t.Parallel()
	s := rendezvoustest.Start(t)
	c, offline, _ := hooks(s)
	start(t, s, c)
	v := newViewer(t, client.Config{Server: s.URL})
	v.connect(t)
	begin := time.Now()
	s.Tell(signal.Drain{AfterMS: 300})
	wait(t, offline, "the device to leave")
	again := wait(t, s.Online, "the device to come back")
	if took := time.Since(begin); took < 300*time.Millisecond || took > 3*time.Second {
		t.Errorf("came back after %v, want 300ms", took)
	}
	if len(again.Hello.Sessions) != 1 {
		t.Errorf("comes back with sessions %v", again.Hello.Sessions)
	}
	if v.State() != client.Connected {
		t.Errorf("client is %v", v.State())
	}
}

func TestReplacedDeviceStaysAway(t *testing.T) {
	t.Parallel()
	s := rendezvoustest.Start(t)
	c, offline, _ := hooks(s)
	start(t, s, c)
	start(t, s, config(s)) // takes its place
	wait(t, offline, "the first to be replaced")
	select {
	case <-s.Online:
		t.Error("came back at once")
	case <-time.After(3 * time.Second):
	}
}

func TestUnknownAndBadMessages(t *testing.T) {
	s := rendezvoustest.Start(t)
	c, offline, _ := hooks(s)
	start(t, s, c)
	s.Raw(`{"type":"from_the_future","x":1}`)
	s.Tell(signal.End{Session: "nobody", Reason: "kicked"})
	for {
		if m, ok := wait(t, s.Reports, "the answer to end").(*signal.Closed); ok && m.Session == "nobody" && m.Reason == "ended" {
			break
		}
	}
	if len(offline) > 0 {
		t.Fatal("an unknown message type ended the connection")
	}
	s.Raw("this is no JSON")
	wait(t, offline, "the connection to end")
	wait(t, s.Online, "the device to come back")
}

func TestKeepaliveKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := rendezvoustest.Start(t)
	s.Keepalive = 1
	c, offline, _ := hooks(s)
	start(t, s, c)
	select {
	case err := <-offline:
		t.Errorf("went offline: %v", err)
	case <-time.After(2500 * time.Millisecond):
	}
}

func TestServerHearsOfSessions(t *testing.T) {
	s := rendezvoustest.Start(t)
	start(t, s, config(s))
	v := newViewer(t, client.Config{Server: s.URL})
	v.connect(t)
	if m, ok := wait(t, s.Reports, "connected").(*signal.Connected); !ok || m.Session != "session-1" || m.Path != signal.PathDirect {
		t.Errorf("got %+v", m)
	}
	v.Close()
	if m, ok := wait(t, s.Reports, "closed").(*signal.Closed); !ok || m.Session != "session-1" {
		t.Errorf("got %+v", m)
	}
}

func TestAnOfferThatIsNoneIsRefused(t *testing.T) {
	s := rendezvoustest.Start(t)
	d := start(t, s, config(s))
	s.Rewrite(func(string) string { return "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n" }, nil)
	v := newViewer(t, client.Config{Server: s.URL})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var no *client.Error
	if err := v.Connect(ctx, rendezvoustest.DeviceID, rendezvoustest.Token); !errors.As(err, &no) || no.Code != "device_refused" {
		t.Errorf("got %v", err)
	}
	eventually(t, "nobody is left", func() bool { return len(d.Viewers()) == 0 })
}
