package device

import (
	"net/http"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// A client that closes its connection and then deletes the session may find that the
// device was quicker. It has left for good all the same.
func TestDeleteAfterTheDeviceClosedVoidsTheTicket(t *testing.T) {
	s := newSite(t)
	c := s.online(t, start{})
	address, a := s.connect(t, "alice")
	id := sessionID(address)
	c.send(t.Context(), signal.Closed{Session: id, Reason: "remote"})
	if !doortest.Eventually(func() bool { return len(s.Gate.List()) == 0 }) {
		t.Fatal("the session goes on")
	}
	if b := ring(t, "DELETE", address, ""); b.StatusCode != http.StatusOK {
		t.Errorf("%d %s", b.StatusCode, b.text)
	}
	if b := s.post(t, a.Header.Get("Turnpike-Resume-Ticket")); b.code() != "token_refused" {
		t.Errorf("its ticket: %d %s", b.StatusCode, b.text)
	}
}
