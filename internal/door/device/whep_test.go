package device

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestConnectsClientAndDevice(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	raw, _ := s.Token(t, "alice", doortest.Cam)
	a := ring(t, "POST", s.url+"/whep/device/device:%2F%2F"+doortest.Cam+"?video=3&audio=10&audio=14", offerText,
		"Content-Type", "application/sdp; charset=utf-8", "Authorization", "bearer "+raw)
	if a.StatusCode != http.StatusCreated || a.text != answerText {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	h := a.Header
	location := h.Get("Location")
	if !strings.HasPrefix(location, "/whep/device/"+doortest.Cam+"/") || len(sessionID(location)) < 26 {
		t.Errorf("Location %q", location)
	}
	if h.Get("Content-Type") != "application/sdp" || h.Get("Link") != `<stun:127.0.0.1:5082>; rel="ice-server"` || h.Get("ETag") == "" {
		t.Errorf("headers %v", h)
	}
	if _, err := token.ParseTicket(h.Get("Turnpike-Resume-Ticket")); err != nil {
		t.Error(err)
	}
	if n, _ := strconv.Atoi(h.Get("Turnpike-Resume-Expires")); n < 100 || n > 120 {
		t.Errorf("ticket lives %s seconds", h.Get("Turnpike-Resume-Expires"))
	}
	o := await[*signal.Offer](c, nil)
	if o == nil || o.SDP != offerText || o.Subject != "alice" || o.Session != sessionID(location) {
		t.Fatalf("offer %+v", o)
	}
	if o.Streams == nil || !slices.Equal(o.Streams.Video, []int{3}) || !slices.Equal(o.Streams.Audio, []int{10, 14}) {
		t.Errorf("streams %+v", o.Streams)
	}
	if all := s.Gate.List(); len(all) != 1 || all[0].ID != o.Session {
		t.Errorf("sessions %v", all)
	}
}

func TestRefusesBadCalls(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	good, _ := s.Token(t, "alice", doortest.Cam)
	now := time.Now().Truncate(time.Second)
	signed := func(issued, expires time.Duration, deviceID string) string {
		raw, err := token.SignConnect(token.Connect{
			Subject: "alice", DeviceID: deviceID, KeyID: doortest.AccessID, Nonce: token.NewNonce(),
			Issued: now.Add(issued), Expires: now.Add(expires),
		}, token.Secrets{App: doortest.SecretKey, Device: doortest.DeviceSecret})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, c := range []struct {
		name, method, path, body, kind, credential string
		status                                     int
		code                                       string
	}{
		{"no token", "POST", "", offerText, "", "", 401, "token_refused"},
		{"nonsense", "POST", "", offerText, "", "v1.a.b", 401, "token_refused"},
		{"other version", "POST", "", offerText, "", "v2" + good[2:], 401, "token_refused"},
		{"forged", "POST", "", offerText, "", good[:len(good)-4] + "AAAA", 401, "token_refused"},
		{"unknown device in the token", "POST", "", offerText, "", signed(0, time.Minute, "NOBODY"), 401, "token_refused"},
		{"huge", "POST", "", offerText, "", strings.Repeat("a", 8000), 401, "token_refused"},
		{"invented ticket", "POST", "", offerText, "", token.NewTicket(), 401, "token_refused"},
		{"expired", "POST", "", offerText, "", signed(-2*time.Hour, -time.Hour, doortest.Cam), 401, "token_expired"},
		{"from the future", "POST", "", offerText, "", signed(time.Hour, 2*time.Hour, doortest.Cam), 401, "token_not_yet_valid"},
		{"for another device", "POST", "", offerText, "", signed(0, time.Minute, doortest.OtherCam), 403, "forbidden"},
		{"no SDP", "POST", "", "v=0", "", good, 400, "malformed_sdp"},
		{"empty", "POST", "", "", "", good, 400, "malformed_sdp"},
		{"an SDP without ICE", "POST", "", strings.ReplaceAll(offerText, "ice-ufrag", "x-ufrag"), "", good, 400, "malformed_sdp"},
		{"too large", "POST", "", offerText + strings.Repeat("a=x\r\n", 8000), "", good, 413, "too_large"},
		{"JSON", "POST", "", offerText, "application/json", good, 415, "unsupported_media_type"},
		{"stream 256", "POST", doortest.Cam + "?video=256", offerText, "", good, 400, "bad_request"},
		{"no device id", "POST", "no%20id", offerText, "", good, 404, "not_found"},
		{"GET", "GET", "", "", "", good, 405, "method_not_allowed"},
		{"no such session", "DELETE", doortest.Cam + "/NOSUCHSESSION", "", "", "", 404, "no_such_session"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, kind := c.path, c.kind
			if path == "" {
				path = doortest.Cam
			}
			if kind == "" {
				kind = "application/sdp"
			}
			header := []string{"Content-Type", kind}
			if c.credential != "" {
				header = append(header, "Authorization", "Bearer "+c.credential)
			}
			a := ring(t, c.method, s.url+"/whep/device/"+path, c.body, header...)
			if a.StatusCode != c.status || a.code() != c.code {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.text, c.status, c.code)
			}
			if a.StatusCode == 401 && a.Header.Get("WWW-Authenticate") != "Bearer" {
				t.Error("no WWW-Authenticate")
			}
			if c.credential != "" && strings.Contains(a.text, c.credential) {
				t.Error("the answer repeats the credential")
			}
		})
	}
	if a := s.post(t, good); a.StatusCode != http.StatusCreated { // none of it has spent the token
		t.Errorf("the good token: %d %s", a.StatusCode, a.text)
	}
}

func TestRefusalsLookTheSameOutside(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	spent, _ := s.Token(t, "alice", doortest.Cam)
	s.post(t, spent)
	revoked, c := s.Token(t, "bob", doortest.Cam)
	s.Revoke(t, token.ChangeToken, c.ID())
	s.Authority.Wake()
	if !doortest.Eventually(func() bool { _, err := s.Authority.Verify(t.Context(), revoked); return err != nil }) {
		t.Fatal("the revocation was not heard of")
	}
	forged := revoked[:len(revoked)-4] + "AAAA"
	first := s.post(t, spent)
	for name, credential := range map[string]string{"revoked": revoked, "forged": forged, "nonsense": "x"} {
		if a := s.post(t, credential); a.StatusCode != first.StatusCode || a.text != first.text {
			t.Errorf("%s: %d %s; spent: %d %s", name, a.StatusCode, a.text, first.StatusCode, first.text)
		}
	}
	for _, want := range []string{"spent", "revoked", "signature", "malformed"} {
		if !doortest.Eventually(func() bool { return slices.Contains(s.Refusals(t), want) }) {
			t.Errorf("the audit trail does not know %q: %q", want, s.Refusals(t))
		}
	}
}

func TestTokenIsNotSpentUnlessTheDeviceAnswers(t *testing.T) {
	refusing := func(code string) func(*signal.Offer) signal.Message {
		return func(o *signal.Offer) signal.Message { return signal.Refuse{Session: o.Session, Code: code} }
	}
	for _, c := range []struct {
		name   string
		answer func(*signal.Offer) signal.Message // nil: the device is offline
		status int
		code   string
	}{
		{"offline", nil, 404, "device_offline"},
		{"refuses", refusing("busy"), 502, "device_refused"},
		{"closes at once", func(o *signal.Offer) signal.Message { return signal.Closed{Session: o.Session, Reason: "failed"} }, 502, "device_refused"},
		{"answers nonsense", func(o *signal.Offer) signal.Message { return signal.Answer{Session: o.Session, SDP: "v=0"} }, 502, "device_refused"},
		{"is silent", func(*signal.Offer) signal.Message { return nil }, 504, "device_timeout"},
		{"answers for another", func(*signal.Offer) signal.Message { return signal.Answer{Session: "other", SDP: answerText} }, 504, "device_timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.door.patience.answer = 200 * time.Millisecond
			if c.answer != nil {
				s.online(t, start{answer: c.answer})
			}
			raw, _ := s.Token(t, "alice", doortest.Cam)
			for range 2 {
				a := s.post(t, raw)
				if a.StatusCode != c.status || a.code() != c.code {
					t.Errorf("%d %s, want %d %s", a.StatusCode, a.text, c.status, c.code)
				}
			}
			if n := len(s.Gate.List()); n != 0 {
				t.Errorf("%d sessions", n)
			}
			s.online(t, start{})
			if a := s.post(t, raw); a.StatusCode != http.StatusCreated {
				t.Errorf("afterwards: %d %s", a.StatusCode, a.text)
			}
		})
	}
}

func TestDeviceThatHangsUpBetweenOfferAndAnswerIsOffline(t *testing.T) {
	s := newSite(t)
	offered := make(chan struct{}, 1)
	c := s.online(t, start{answer: func(*signal.Offer) signal.Message { offered <- struct{}{}; return nil }})
	go func() { <-offered; c.ws.CloseNow() }()
	raw, _ := s.Token(t, "alice", doortest.Cam)
	if a := s.post(t, raw); a.code() != "device_offline" {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	s.online(t, start{})
	if a := s.post(t, raw); a.StatusCode != http.StatusCreated {
		t.Errorf("afterwards: %d %s", a.StatusCode, a.text)
	}
}

func TestClientThatLeavesWhileWaitingIsTakenBack(t *testing.T) {
	s := newSite(t)
	offered := make(chan string, 1)
	c := s.online(t, start{answer: func(o *signal.Offer) signal.Message { offered <- o.Session; return nil }})
	raw, _ := s.Token(t, "alice", doortest.Cam)
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := request(ctx, "POST", s.url+"/whep/device/"+doortest.Cam, offerText,
			"Content-Type", "application/sdp", "Authorization", "Bearer "+raw)
		left <- err
	}()
	id := <-offered
	leave()
	<-left
	if e := await(c, func(e *signal.End) bool { return e.Session == id }); e == nil {
		t.Error("the device was not told")
	}
	if !doortest.Eventually(func() bool { return len(s.Gate.List()) == 0 }) {
		t.Error("the session is still there")
	}
	s.online(t, start{})
	if a := s.post(t, raw); a.StatusCode != http.StatusCreated {
		t.Errorf("the token: %d %s", a.StatusCode, a.text)
	}
}

func TestOfManyPresentationsOneIsAdmitted(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	raw, _ := s.Token(t, "alice", doortest.Cam)
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			a, err := request(context.Background(), "POST", s.url+"/whep/device/"+doortest.Cam, offerText,
				"Content-Type", "application/sdp", "Authorization", "Bearer "+raw)
			word := fmt.Sprint(err)
			if err == nil {
				word = fmt.Sprint(a.StatusCode, " ", a.code())
			}
			mu.Lock()
			defer mu.Unlock()
			got[word]++
		})
	}
	all.Wait()
	if got["201 "] != 1 || got["201 "]+got["401 token_refused"]+got["429 too_many_failures"] != 100 {
		t.Errorf("answers %v", got)
	}
	if a := s.post(t, "x"); a.StatusCode != http.StatusTooManyRequests || a.Header.Get("Retry-After") == "" {
		t.Errorf("the next refused attempt: %d %v", a.StatusCode, a.Header)
	}
	s.connect(t, "bob") // a good token is good
}

func TestTicketResumesAndIsReplaced(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	first, a := s.connect(t, "alice")
	b := s.post(t, a.Header.Get("Turnpike-Resume-Ticket"))
	if b.StatusCode != http.StatusCreated {
		t.Fatalf("%d %s", b.StatusCode, b.text)
	}
	if b.Header.Get("Turnpike-Resume-Ticket") == a.Header.Get("Turnpike-Resume-Ticket") {
		t.Error("the same ticket again")
	}
	if e := await(c, func(e *signal.End) bool { return e.Session == sessionID(first) }); e == nil || e.Reason != session.Resumed {
		t.Errorf("the device hears %+v", e)
	}
	if o := await(c, func(o *signal.Offer) bool { return o.Session != sessionID(first) }); o == nil || o.Subject != "alice" {
		t.Errorf("offer %+v", o)
	}
	if all := s.Gate.List(); len(all) != 1 {
		t.Errorf("%d sessions", len(all))
	}
}

func TestRenewsTickets(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	address, a := s.connect(t, "alice")
	ticket := a.Header.Get("Turnpike-Resume-Ticket")
	b := ring(t, "POST", address, "", "Authorization", "Bearer "+ticket)
	fresh := b.Header.Get("Turnpike-Resume-Ticket")
	if b.StatusCode != http.StatusOK || fresh == "" || fresh == ticket || b.Header.Get("Turnpike-Resume-Expires") == "" {
		t.Fatalf("%d %v", b.StatusCode, b.Header)
	}
	if c := ring(t, "POST", address, "", "Authorization", "Bearer "+token.NewTicket()); c.code() != "token_refused" {
		t.Errorf("invented ticket: %d %s", c.StatusCode, c.text)
	}
	if c := ring(t, "POST", address, offerText, "Authorization", "Bearer "+fresh); c.StatusCode != http.StatusBadRequest {
		t.Errorf("with a body: %d %s", c.StatusCode, c.text)
	}
	if c := s.post(t, fresh); c.StatusCode != http.StatusCreated {
		t.Errorf("the renewed ticket: %d %s", c.StatusCode, c.text)
	}
}

func TestTricklesCandidates(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	address, a := s.connect(t, "alice")
	const kind = "application/trickle-ice-sdpfrag"
	for _, x := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"candidates", fragmentText, []string{"Content-Type", kind}, 204, ""},
		{"with its ETag", fragmentText, []string{"Content-Type", kind, "If-Match", a.Header.Get("ETag")}, 204, ""},
		{"with another ETag", fragmentText, []string{"Content-Type", kind, "If-Match", `"x"`}, 412, "precondition_failed"},
		{"asking for a restart", fragmentText, []string{"Content-Type", kind, "If-Match", "*"}, 422, "ice_restart"},
		{"with other credentials", strings.Replace(fragmentText, "clientfrag", "newfrag", 1), []string{"Content-Type", kind}, 422, "ice_restart"},
		{"of another type", fragmentText, []string{"Content-Type", "application/sdp"}, 415, "unsupported_media_type"},
		{"of nothing", "", []string{"Content-Type", kind}, 400, "malformed_sdp"},
		{"of anything", "v=0\r\n", []string{"Content-Type", kind}, 400, "malformed_sdp"},
		{"too many", strings.Repeat(fragmentText, 100), []string{"Content-Type", kind}, 413, "too_large"},
	} {
		t.Run(x.name, func(t *testing.T) {
			if a := ring(t, "PATCH", address, x.body, x.header...); a.StatusCode != x.status || a.code() != x.code {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.text, x.status, x.code)
			}
		})
	}
	if m := await[*signal.Candidate](c, nil); m == nil || m.Fragment != fragmentText || m.Session != sessionID(address) {
		t.Errorf("the device got %+v", m)
	}
}

func TestDeleteEndsTheSessionForGood(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	address, a := s.connect(t, "alice")
	if b := ring(t, "DELETE", address, ""); b.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", b.StatusCode, b.text)
	}
	if e := await[*signal.End](c, nil); e == nil || e.Session != sessionID(address) || e.Reason != session.Deleted {
		t.Errorf("the device hears %+v", e)
	}
	for _, method := range []string{"DELETE", "PATCH", "POST"} {
		if b := ring(t, method, address, ""); b.code() != "no_such_session" {
			t.Errorf("%s afterwards: %d %s", method, b.StatusCode, b.text)
		}
	}
	if b := s.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.code() != "token_refused" {
		t.Errorf("its ticket: %d %s", b.StatusCode, b.text)
	}
}

func TestSessionAddressBelongsToItsDevice(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	address, _ := s.connect(t, "alice")
	elsewhere := strings.Replace(address, doortest.Cam, doortest.OtherCam, 1)
	if a := ring(t, "DELETE", elsewhere, ""); a.StatusCode != http.StatusNotFound {
		t.Errorf("%d %s", a.StatusCode, a.text)
	}
	if len(s.Gate.List()) != 1 {
		t.Error("the session ended")
	}
}

func TestEndsWhatTheDeviceClosed(t *testing.T) {
	for said, want := range map[string]string{"remote": session.Remote, "failed": session.Failed, "device": session.Remote} {
		t.Run(said, func(t *testing.T) {
			s := newSite(t)
			c := s.online(t, start{})
			address, a := s.connect(t, "alice")
			id := sessionID(address)
			c.send(t.Context(), signal.Connected{Session: id, Path: signal.PathDirect})
			c.send(t.Context(), signal.Closed{Session: id, Reason: said})
			over := func() bool {
				e, err := s.Store.Session(t.Context(), id)
				return err == nil && !e.Ended.IsZero() && e.Reason == want
			}
			if !doortest.Eventually(over) || len(s.Gate.List()) != 0 {
				t.Errorf("the session goes on: %v", s.Gate.List())
			}
			if b := s.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.StatusCode != http.StatusCreated {
				t.Errorf("its ticket: %d %s", b.StatusCode, b.text)
			}
		})
	}
}

func TestDeviceCannotCloseAnothersSession(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	other := s.online(t, start{id: doortest.OtherCam})
	address, _ := s.connect(t, "alice")
	other.send(t.Context(), signal.Closed{Session: sessionID(address), Reason: "remote"})
	other.ws.Ping(t.Context()) // it was read
	again := s.online(t, start{id: doortest.OtherCam, sessions: []string{sessionID(address)}})
	if !slices.Equal(again.welcome.End, []string{sessionID(address)}) {
		t.Errorf("welcome %+v", again.welcome)
	}
	if len(s.Gate.List()) != 1 {
		t.Error("the session ended")
	}
}

func TestKickReachesTheDeviceWithinASecond(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	address, _ := s.connect(t, "alice")
	begin := time.Now()
	s.Revoke(t, token.ChangeSession, sessionID(address))
	e := await[*signal.End](c, nil)
	if e == nil || e.Session != sessionID(address) {
		t.Errorf("the device hears %+v", e)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestSessionsOfALostDeviceEnd(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	address, _ := s.connect(t, "alice")
	c.hangUp()
	gone := func() bool { _, err := s.Store.Presence(t.Context(), doortest.Cam); return err != nil }
	if !doortest.Eventually(gone) {
		t.Fatal("still present")
	}
	s.door.endStale(t.Context())
	if len(s.Gate.List()) != 1 {
		t.Fatal("ended too early")
	}
	s.door.patience.back = 0
	s.door.endStale(t.Context())
	if e, err := s.Store.Session(t.Context(), sessionID(address)); err != nil || e.Reason != session.Lost {
		t.Errorf("session %+v, %v", e, err)
	}
}

func TestSessionsThatARestartedDeviceForgotEnd(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	kept, _ := s.connect(t, "alice")
	forgotten, a := s.connect(t, "bob")
	s.online(t, start{sessions: []string{sessionID(kept)}})
	s.door.endStale(t.Context())
	if len(s.Gate.List()) != 2 {
		t.Fatal("ended too early")
	}
	s.door.patience.settle = 0
	s.door.endStale(t.Context())
	if e, err := s.Store.Session(t.Context(), sessionID(forgotten)); err != nil || e.Reason != session.Failed {
		t.Errorf("forgotten session %+v, %v", e, err)
	}
	if _, ok := s.Gate.Session(sessionID(kept)); !ok {
		t.Error("the other one ended as well")
	}
	if b := s.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.StatusCode != http.StatusCreated {
		t.Errorf("the ticket of the forgotten one: %d %s", b.StatusCode, b.text)
	}
}

func TestOpensToOtherOrigins(t *testing.T) {
	s := newSite(t)
	a := ring(t, "OPTIONS", s.url+"/whep/device/"+doortest.Cam, "", "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
	if a.StatusCode != http.StatusNoContent || a.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("preflight: %d %v", a.StatusCode, a.Header)
	}
	if a = ring(t, "OPTIONS", s.url+"/whep/device/"+doortest.Cam, ""); a.Header.Get("Accept-Post") != "application/sdp" {
		t.Errorf("OPTIONS: %d %v", a.StatusCode, a.Header)
	}
	if a = ring(t, "OPTIONS", s.url+"/whep/device/"+doortest.Cam+"/X", ""); a.Header.Get("Accept-Patch") != "application/trickle-ice-sdpfrag" {
		t.Errorf("OPTIONS of a session: %d %v", a.StatusCode, a.Header)
	}
}
