package device

import (
	"net/http"
	"slices"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/bus/bustest"
	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// twoSites are two nodes on one PostgreSQL and one NATS.
func twoSites(t *testing.T) (east, west *site) {
	t.Helper()
	db, url := storetest.Postgres(t), bustest.External(t).URL
	east = openSite(t, doortest.Build(t, db, bus.Config{Name: "east", URL: url}))
	db.Dir = t.TempDir()
	return east, openSite(t, doortest.Build(t, db, bus.Config{Name: "west", URL: url}))
}

// keeps reports whether the session is on this node's list, and on this node's alone.
func keeps(t *testing.T, id string, here, there *site) bool {
	t.Helper()
	_, one := here.Gate.Session(id)
	_, two := there.Gate.Session(id)
	e, err := here.Store.Session(t.Context(), id)
	return one && !two && err == nil && e.Node == here.Name && e.Ended.IsZero()
}

func TestClientOnOneNodeDeviceOnTheOther(t *testing.T) {
	east, west := twoSites(t)
	c := east.online(t, start{})
	address, a := west.connect(t, "alice")
	id := sessionID(address)
	if o := await[*signal.Offer](c, nil); o == nil || o.Session != id || a.text != answerText {
		t.Fatalf("offer %+v, answer %q", o, a.text)
	}

	b := ring(t, "PATCH", address, fragmentText, "Content-Type", "application/trickle-ice-sdpfrag")
	if m := await[*signal.Candidate](c, nil); m == nil || b.StatusCode != http.StatusNoContent {
		t.Errorf("trickle: %d %s, device got %+v", b.StatusCode, b.text, m)
	}

	c.send(t.Context(), signal.Connected{Session: id, Path: signal.PathDirect})
	if !doortest.Eventually(func() bool { return keeps(t, id, east, west) }) {
		t.Error("the device's node does not keep the session")
	}

	if b := ring(t, "DELETE", address, ""); b.StatusCode != http.StatusOK {
		t.Errorf("delete: %d %s", b.StatusCode, b.text)
	}
	if e := await[*signal.End](c, nil); e == nil || e.Session != id {
		t.Errorf("the device hears %+v", e)
	}
	if !doortest.Eventually(func() bool { return len(east.Gate.List())+len(west.Gate.List()) == 0 }) {
		t.Error("the session goes on")
	}
	if b := west.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.code() != "token_refused" {
		t.Errorf("the ticket of a deleted session: %d %s", b.StatusCode, b.text)
	}
}

func TestSessionOutlivesTheNodeThatLetItIn(t *testing.T) {
	east, west := twoSites(t)
	c := east.online(t, start{})
	address, _ := west.connect(t, "alice")
	id := sessionID(address)
	c.send(t.Context(), signal.Connected{Session: id, Path: signal.PathDirect})
	if !doortest.Eventually(func() bool { return keeps(t, id, east, west) }) {
		t.Fatal("the device's node does not keep the session")
	}
	west.stop()
	west.Close()
	if _, there := east.Gate.Session(id); !there {
		t.Fatal("the session went with the other node")
	}
	east.Revoke(t, token.ChangeSession, id)
	if e := await[*signal.End](c, nil); e == nil || e.Session != id {
		t.Errorf("the device hears %+v", e)
	}
}

func TestDeviceMovesToTheOtherNode(t *testing.T) {
	east, west := twoSites(t)
	first := east.online(t, start{})
	address, _ := east.connect(t, "alice")
	id := sessionID(address)

	second := west.online(t, start{sessions: []string{id, "NOSUCHSESSION"}})
	if code := first.closeCode(); code != 4409 {
		t.Errorf("the first was closed with %d", code)
	}
	if !slices.Equal(second.welcome.End, []string{"NOSUCHSESSION"}) {
		t.Errorf("welcome %+v", second.welcome)
	}
	if !doortest.Eventually(func() bool { return keeps(t, id, west, east) }) {
		t.Error("the session did not move along")
	}
	east.connect(t, "bob") // and a client of the first node reaches it there
	if o := await[*signal.Offer](second, nil); o == nil || o.Subject != "bob" {
		t.Errorf("offer %+v", o)
	}
	if b := ring(t, "DELETE", east.url+"/whep/device/"+doortest.Cam+"/"+id, ""); b.StatusCode != http.StatusOK {
		t.Errorf("delete at the first node: %d %s", b.StatusCode, b.text)
	}
	if e := await(second, func(e *signal.End) bool { return e.Session == id }); e == nil {
		t.Error("the device was not told")
	}
}

func TestForgottenSessionsEndOnTheOtherNodeToo(t *testing.T) {
	east, west := twoSites(t)
	east.online(t, start{})
	address, _ := west.connect(t, "alice") // not reported connected: the client's node keeps it
	west.door.patience.settle = 0
	west.door.endStale(t.Context())
	if len(west.Gate.List()) != 1 {
		t.Fatal("ended although the device carries it")
	}
	east.online(t, start{})
	west.door.endStale(t.Context())
	if e, err := west.Store.Session(t.Context(), sessionID(address)); err != nil || e.Reason != session.Failed {
		t.Errorf("session %+v, %v", e, err)
	}
}

func TestSessionsSurviveARestart(t *testing.T) {
	db := storetest.SQLite(t)
	before := openSite(t, doortest.Build(t, db, bus.Config{Name: "before"}))
	c := before.online(t, start{})
	address, a := before.connect(t, "alice")
	deleted, _ := before.connect(t, "bob")
	ring(t, "DELETE", deleted, "")
	before.stop()
	if code := c.closeCode(); code != 4503 {
		t.Errorf("closed with %d", code)
	}
	before.Close()

	after := openSite(t, doortest.Build(t, db, bus.Config{Name: "after"}))
	again := after.online(t, start{sessions: []string{sessionID(address), sessionID(deleted)}})
	if !slices.Equal(again.welcome.End, []string{sessionID(deleted)}) {
		t.Errorf("welcome %+v", again.welcome)
	}
	if s, ok := after.Gate.Session(sessionID(address)); !ok || s.Grant.Subject != "alice" {
		t.Error("the session was not taken up")
	}
	after.Revoke(t, token.ChangeSession, sessionID(address))
	if e := await[*signal.End](again, nil); e == nil || e.Session != sessionID(address) {
		t.Errorf("the device hears %+v", e)
	}
	if b := after.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.code() != "token_refused" {
		t.Errorf("the ticket of a kicked session: %d %s", b.StatusCode, b.text)
	}
}

func TestReleasesWhatAnotherNodeKeeps(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	address, _ := s.connect(t, "alice")
	in, _ := s.Gate.Session(sessionID(address))
	s.door.hear([]byte(`{"session":"` + in.ID + `","node":"elsewhere"}`))
	if in.Reason() != session.Draining {
		t.Errorf("session ended with %q", in.Reason())
	}
	if e, err := s.Store.Session(t.Context(), in.ID); err != nil || !e.Ended.IsZero() {
		t.Errorf("session %+v, %v", e, err)
	}
}
