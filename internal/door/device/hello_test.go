package device

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestPutsDevicesOnline(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	w := c.welcome
	if w.Keepalive != 25 || w.SessionLease != 120 || w.Epoch != 1 || len(w.End) != 0 {
		t.Errorf("welcome %+v", w)
	}
	if len(w.ICEServers) != 1 || w.ICEServers[0].URLs[0] != "stun:127.0.0.1:5082" {
		t.Errorf("ICE servers %v", w.ICEServers)
	}
	p, err := s.Store.Presence(t.Context(), doortest.Cam)
	if err != nil || p.Node != "n1" || p.From != "127.0.0.1" || p.Version != "test/1" || p.ClientID == "" || time.Since(p.Since) > patient {
		t.Errorf("presence %+v, %v", p, err)
	}
	c.hangUp()
	gone := func() bool {
		_, err := s.Store.Presence(t.Context(), doortest.Cam)
		return token.Reason(err) == "unknown"
	}
	if !doortest.Eventually(gone) {
		t.Error("still present after it hung up")
	}
}

func TestRefusesDevices(t *testing.T) {
	s := newSite(t)
	s.online(t, start{id: doortest.OtherCam, client: "first"})
	if err := s.Store.AddDevice(t.Context(), token.Device{ID: "OFF", App: doortest.App, Secret: doortest.DeviceSecret, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Store.DisableDevice(t.Context(), "OFF", true, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		how    start
		code   websocket.StatusCode
		said   string
		reason string // in the audit trail
	}{
		{"wrong secret", start{secret: "not-its-secret"}, 4401, "refused", "signature"},
		{"unknown device", start{id: "NOBODY"}, 4401, "refused", "unknown"},
		{"disabled device", start{id: "OFF"}, 4401, "refused", "disabled"},
		{"other hardware", start{id: doortest.OtherCam, client: "second"}, 4403, "client_id_conflict", "client_id_conflict"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := dial(t.Context(), s.url, c.how)
			if websocket.CloseStatus(err) != c.code || !strings.Contains(err.Error(), `"`+c.said+`"`) {
				t.Errorf("dial: %v, want %d %s", err, c.code, c.said)
			}
			if !doortest.Eventually(func() bool { return slices.Contains(s.Refusals(t), c.reason) }) {
				t.Errorf("refusals in the audit trail: %q, want %q", s.Refusals(t), c.reason)
			}
		})
	}
}

func TestReleasedDeviceMayStartOnOtherHardware(t *testing.T) {
	s := newSite(t)
	s.online(t, start{client: "first"}).hangUp()
	if err := s.Store.ReleaseDevice(t.Context(), doortest.Cam); err != nil {
		t.Fatal(err)
	}
	s.online(t, start{client: "second"})
}

// raw opens a WebSocket and takes the challenge, and no more.
func (s *site) raw(t *testing.T) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, s.url+"/v1/device", &websocket.DialOptions{
		Subprotocols: []string{signal.Subprotocol}, HTTPClient: doortest.Client(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	if _, err := readAs[*signal.Challenge](ctx, ws); err != nil {
		t.Fatal(err)
	}
	return ws
}

func closeStatus(t *testing.T, ws *websocket.Conn) websocket.StatusCode {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestClosesOnNonsense(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		name, text string
		kind       websocket.MessageType
		online     bool // said after the welcome
		code       websocket.StatusCode
	}{
		{"no JSON", "hello", websocket.MessageText, false, 4400},
		{"no hello", `{"type":"drain","after_ms":1}`, websocket.MessageText, false, 4400},
		{"unknown type first", `{"type":"howdy"}`, websocket.MessageText, false, 4400},
		{"binary", "{}", websocket.MessageBinary, false, 4400},
		{"too large", `{"type":"x","y":"` + strings.Repeat("y", signal.MaxMessage) + `"}`, websocket.MessageText, false, websocket.StatusMessageTooBig},
		{"no JSON, online", "hello", websocket.MessageText, true, 4400},
		{"answer without SDP, online", `{"type":"answer","session":"x"}`, websocket.MessageText, true, 4400},
		{"binary, online", "{}", websocket.MessageBinary, true, 4400},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.online {
				device := s.online(t, start{})
				device.ws.Write(t.Context(), c.kind, []byte(c.text))
				if code := device.closeCode(); code != c.code {
					t.Errorf("closed with %d, want %d", code, c.code)
				}
				return
			}
			ws := s.raw(t)
			ws.Write(t.Context(), c.kind, []byte(c.text))
			if code := closeStatus(t, ws); code != c.code {
				t.Errorf("closed with %d, want %d", code, c.code)
			}
		})
	}
}

func TestSilentSocketGetsNoFurtherThanTheChallenge(t *testing.T) {
	s := newSite(t)
	s.door.patience.hello = 100 * time.Millisecond
	if code := closeStatus(t, s.raw(t)); code != 4408 {
		t.Errorf("closed with %d", code)
	}
}

func TestAnswersUnknownTypes(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"telepathy"}`))
	if e := await[*signal.Error](c, nil); e == nil || e.Code != "unknown_type" {
		t.Errorf("answer %+v", e)
	}
	s.connect(t, "alice") // and life goes on
}

func TestSecondStartReplacesTheFirst(t *testing.T) {
	s := newSite(t)
	first := s.online(t, start{answer: func(*signal.Offer) signal.Message { return nil }})
	second := s.online(t, start{})
	if code := first.closeCode(); code != 4409 {
		t.Errorf("first closed with %d", code)
	}
	if second.welcome.Epoch <= first.welcome.Epoch {
		t.Errorf("epochs %d, then %d", first.welcome.Epoch, second.welcome.Epoch)
	}
	s.connect(t, "alice")
	if p, err := s.Store.Presence(t.Context(), doortest.Cam); err != nil || p.Epoch != second.welcome.Epoch {
		t.Errorf("presence %+v, %v", p, err)
	}
}

func TestOfManyStartsAtOnceOneRemains(t *testing.T) {
	s := newSite(t)
	const many = 20
	started := make(chan *cam, many)
	for range many {
		go func() {
			c, err := dial(t.Context(), s.url, start{})
			if err != nil {
				c = nil
			}
			started <- c
		}()
	}
	var all []*cam
	for range many {
		if c := <-started; c != nil {
			defer c.hangUp()
			all = append(all, c)
		}
	}
	alive := func() (n int) {
		for _, c := range all {
			select {
			case <-c.done:
			default:
				n++
			}
		}
		return n
	}
	if !doortest.Eventually(func() bool { return alive() == 1 }) {
		t.Errorf("%d are connected", alive())
	}
	s.connect(t, "alice")
}

func TestSilentDeviceGoesOffline(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.Keepalive = time.Second })
	silent := s.online(t, start{})
	pinging := s.online(t, start{id: doortest.OtherCam})
	stop := make(chan struct{})
	pings := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				pings <- nil
				return
			case <-time.After(500 * time.Millisecond):
				if err := pinging.ws.Ping(t.Context()); err != nil {
					pings <- err
					return
				}
			}
		}
	}()
	if code := silent.closeCode(); code != 4408 {
		t.Errorf("silent device closed with %d", code)
	}
	close(stop)
	if err := <-pings; err != nil {
		t.Errorf("the pinging one was closed: %v", err)
	}
}

func TestDisabledDeviceIsOutWithinASecond(t *testing.T) {
	for name, shut := range map[string]func(*site) error{
		"disabled": func(s *site) error { return s.Store.DisableDevice(t.Context(), doortest.Cam, true, time.Now()) },
		"removed":  func(s *site) error { return s.Store.RemoveDevice(t.Context(), doortest.Cam, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c := s.online(t, start{})
			address, _ := s.connect(t, "alice")
			begin := time.Now()
			if err := shut(s); err != nil {
				t.Fatal(err)
			}
			if code := c.closeCode(); code != 4401 {
				t.Errorf("closed with %d", code)
			}
			if took := time.Since(begin); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if e := await(c, func(e *signal.End) bool { return e.Session == sessionID(address) }); e == nil {
				t.Error("the device was not told to end its session")
			}
			if _, err := dial(t.Context(), s.url, start{}); websocket.CloseStatus(err) != 4401 {
				t.Errorf("starts again: %v", err)
			}
		})
	}
}

func TestDrainSendsDevicesElsewhereAndServesThoseInHand(t *testing.T) {
	s := newSite(t)
	offered, answer := make(chan struct{}), make(chan struct{})
	c := s.online(t, start{answer: func(o *signal.Offer) signal.Message {
		close(offered)
		<-answer
		return yes(o)
	}})
	raw, _ := s.Token(t, "alice", doortest.Cam)
	inHand := make(chan int, 1)
	go func() {
		a, err := request(context.Background(), "POST", s.url+"/whep/device/"+doortest.Cam, offerText,
			"Content-Type", "application/sdp", "Authorization", "Bearer "+raw)
		if err != nil {
			inHand <- 0
			return
		}
		inHand <- a.StatusCode
	}()
	<-offered
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	if !doortest.Eventually(func() bool {
		s.door.mu.Lock()
		defer s.door.mu.Unlock()
		return s.door.draining
	}) {
		t.Fatal("does not drain")
	}
	close(answer)
	if status := <-inHand; status != http.StatusCreated {
		t.Errorf("client in hand: %d", status)
	}
	if m := await[*signal.Drain](c, nil); m == nil || m.AfterMS > 10_000 {
		t.Errorf("drain %+v", m)
	}
	if code := c.closeCode(); code != 4503 {
		t.Errorf("closed with %d", code)
	}
	<-stopped
	if n := len(s.Gate.List()); n != 1 {
		t.Errorf("%d sessions; the one in hand goes on", n)
	}
}

func TestSilentSocketDoesNotHoldUpTheEnd(t *testing.T) {
	s := newSite(t)
	ws := s.raw(t)
	begin := time.Now()
	go closeStatus(t, ws) // answers the close frame
	s.stop()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestFullNodeTurnsDevicesAway(t *testing.T) {
	s := newSite(t, func(c *Config) { c.MaxDevices = 1 })
	s.online(t, start{})
	if _, err := dial(t.Context(), s.url, start{id: doortest.OtherCam}); websocket.CloseStatus(err) != 4503 {
		t.Errorf("one too many: %v", err)
	}
	s.online(t, start{}) // a second start of the same device needs no second place
}

func TestKeepsGuessersQuiet(t *testing.T) {
	s := newSite(t)
	slow := false
	for range 40 {
		_, err := dial(t.Context(), s.url, start{secret: "a-guess-at-it"})
		slow = slow || websocket.CloseStatus(err) == 4429
	}
	if !slow {
		t.Error("was never told to slow down")
	}
	s.online(t, start{}) // who knows the secret is let in, whatever its neighbours do
}

func TestRefusesBadConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"keepalive of nothing": func(c *Config) { c.Keepalive = 0 },
		"negative lease":       func(c *Config) { c.SessionLease = -1 },
		"no devices":           func(c *Config) { c.MaxDevices = 0 },
		"TURN without key":     func(c *Config) { c.ICEServers = []string{"turn:example.org"} },
		"header in a URL":      func(c *Config) { c.ICEServers = []string{"stun:example.org>; rel=evil"} },
		"no host":              func(c *Config) { c.ICEServers = []string{"stun:"} },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.check(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if err := DefaultConfig().check(); err != nil {
		t.Error(err)
	}
}
