package session_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestAdmitsAndListsAndWritesDown(t *testing.T) {
	h := newHouse(t, false)
	c := h.claims()
	s, err := h.Admit(t.Context(), h.sign(c), toCam())
	h.must(err)
	if s.Grant.Subject != "user-17" || s.Grant.TokenID != c.ID() || s.Door != "device" || s.From != "192.0.2.7" || s.Reason() != "" {
		t.Errorf("session %+v", s)
	}
	if !s.May(access.Connect, "device:cam") || s.May(access.Connect, "device:cam2") || s.May(access.Publish, "device:cam") {
		t.Error("session may do what its token does not say, or not what it says")
	}
	if got, ok := h.Session(s.ID); !ok || got != s || len(h.List()) != 1 {
		t.Errorf("list %v", h.List())
	}
	e, err := h.store.Session(t.Context(), s.ID)
	h.must(err)
	if e.Subject != "user-17" || e.Target != "device:cam" || e.Node != "node-1" || e.TokenID != c.ID() || !e.Ended.IsZero() {
		t.Errorf("entry %+v", e)
	}
	ticket, end := s.Ticket()
	if left := time.Until(end); left < session.TicketTTL-deadline || left > session.TicketTTL {
		t.Errorf("ticket lives %v", left)
	}
	if c, err := h.authority.Verify(t.Context(), ticket); err != nil || c.Session != s.ID {
		t.Errorf("ticket is for %q, %v", c.Session, err)
	}
	s.End(session.Deleted)
	h.ended(s, session.Deleted)
	if s.May(access.Connect, "device:cam") {
		t.Error("session may still connect after its end")
	}
	if n := len(h.events("admitted", 1)) + len(h.events("ended", 1)); n != 2 {
		t.Errorf("%d events", n)
	}
}

// notReady is a door's own reason to refuse.
type notReady struct{}

func (notReady) Error() string  { return "device is offline" }
func (notReady) Reason() string { return "device_offline" }

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		reason  string
		code    string
		prepare func(h *house, c *token.Connect, r *access.Request)
		ready   error
	}{
		{"signature", "signature", "token_refused", func(h *house, c *token.Connect, _ *access.Request) { c.KeyID = "ak-forged" }, nil},
		{"unknown device", "unknown", "token_refused", func(_ *house, c *token.Connect, _ *access.Request) { c.DeviceID = "nobody" }, nil},
		{"disabled device", "disabled", "token_refused", func(h *house, _ *token.Connect, _ *access.Request) {
			h.must(h.store.DisableDevice(h.t.Context(), "cam", true, time.Now()))
		}, nil},
		{"expired", "expired", "token_expired", func(_ *house, c *token.Connect, _ *access.Request) {
			c.Issued, c.Expires = c.Issued.Add(-time.Hour), c.Issued.Add(-time.Minute)
		}, nil},
		{"from the future", "not_yet_valid", "token_not_yet_valid", func(_ *house, c *token.Connect, _ *access.Request) {
			c.Issued, c.Expires = c.Issued.Add(time.Hour), c.Issued.Add(2*time.Hour)
		}, nil},
		{"revoked", "revoked", "token_refused", func(h *house, c *token.Connect, _ *access.Request) {
			h.revoke(token.ChangeToken, c.ID())
		}, nil},
		{"another device", "wrong_resource", "forbidden", func(_ *house, _ *token.Connect, r *access.Request) {
			r.Resource = access.DeviceResource("cam2")
		}, nil},
		{"another action", "wrong_action", "forbidden", func(_ *house, _ *token.Connect, r *access.Request) {
			r.Action = access.Manage
		}, nil},
		{"door is not ready", "device_offline", "", func(*house, *token.Connect, *access.Request) {}, notReady{}},
		{"door fails", "failed", "", func(*house, *token.Connect, *access.Request) {}, errors.New("disk full")},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, false)
			h.must(h.store.AddKey(t.Context(), token.Key{ID: "ak-forged", App: "demo", Secret: "not-the-secret", Created: time.Now()}))
			claims, r := h.claims(), toCam()
			c.prepare(h, &claims, &r)
			raw := h.sign(claims)
			s, err := h.AdmitWhen(t.Context(), raw, r, func(context.Context, access.Grant) error { return c.ready })
			if s != nil || session.Reason(err) != c.reason || session.Code(err) != c.code {
				t.Fatalf("got %v, %v: reason %q, code %q", s, err, session.Reason(err), session.Code(err))
			}
			events := h.events("refused", 1)
			if len(events) != 1 || events[0].Reason != c.reason || events[0].TokenID != claims.ID() ||
				events[0].From != r.From || events[0].Resource != r.Resource || events[0].Subject != "user-17" {
				t.Errorf("events %+v", events)
			}
			text, err := json.Marshal(events)
			h.must(err)
			for _, secret := range append(strings.Split(raw, ".")[1:], appSecret, deviceSecret) {
				if strings.Contains(string(text), secret) {
					t.Errorf("audit trail tells a secret: %s", text)
				}
			}
			if len(h.List()) != 0 {
				t.Error("somebody is inside")
			}
		})
	}
}

func TestFailedAttemptsLeaveTheTokenUnspent(t *testing.T) {
	h := newHouse(t, false)
	raw := h.token()
	_, err := h.AdmitWhen(t.Context(), raw, toCam(), func(context.Context, access.Grant) error { return notReady{} })
	if session.Reason(err) != "device_offline" {
		t.Fatal(err)
	}
	wrong := toCam()
	wrong.Resource = "device:cam2"
	if _, err = h.Admit(t.Context(), raw, wrong); session.Code(err) != "forbidden" {
		t.Fatal(err)
	}
	s, err := h.Admit(t.Context(), raw, toCam())
	h.must(err)
	s.Abort("device_timeout")
	h.ended(s, "device_timeout")
	s, err = h.Admit(t.Context(), raw, toCam())
	h.must(err)
	s.Abort("device_refused")
	s.Abort("again") // and nothing happens
	s, err = h.Admit(t.Context(), raw, toCam())
	h.must(err)
	s.End(session.Failed)
	s.Abort("too late")
	if _, err = h.Admit(t.Context(), raw, toCam()); session.Reason(err) != "spent" || session.Code(err) != "token_refused" {
		t.Errorf("spent token: %v", err)
	}
}

func TestOneTokenThousandPresentations(t *testing.T) {
	h := newHouse(t, true)
	gates := []*session.Gate{h.Gate, nil}
	h.openGate("node-2")
	gates[1] = h.Gate
	const n = 1000
	raw := h.token()
	start := make(chan struct{})
	var admitted, spent atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			switch s, err := gates[i%2].Admit(t.Context(), raw, toCam()); {
			case err == nil && s != nil:
				admitted.Add(1)
			case errors.Is(err, token.ErrSpent):
				spent.Add(1)
			default:
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	close(start)
	all.Wait()
	listed := len(gates[0].List()) + len(gates[1].List())
	if admitted.Load() != 1 || spent.Load() != n-1 || listed != 1 {
		t.Errorf("%d admitted, %d spent, %d on the list", admitted.Load(), spent.Load(), listed)
	}
	live, err := h.store.Sessions(t.Context(), "demo", true, 0)
	h.must(err)
	if len(live) != 1 {
		t.Errorf("%d sessions were written down", len(live))
	}
	if got := len(h.events("refused", n-1)); got != n-1 {
		t.Errorf("%d refusals were written down, want %d", got, n-1)
	}
}

func TestCallerWhoHasGoneLeavesNothing(t *testing.T) {
	h := newHouse(t, false)
	raw := h.token()
	ctx, cancel := context.WithCancel(t.Context())
	h.ledger.afterCommit = cancel
	if _, err := h.Admit(ctx, raw, toCam()); session.Reason(err) != "cancelled" {
		t.Fatalf("got %v", err)
	}
	h.ledger.afterCommit = nil
	if len(h.List()) != 0 {
		t.Error("somebody is inside")
	}
	if _, err := h.Admit(t.Context(), raw, toCam()); err != nil {
		t.Errorf("token was lost with the caller: %v", err)
	}
}

// overtaking are the things that end a session, and must not let one begin.
func overtaking(h *house, c token.Connect) map[string]func() {
	ctx := context.Background()
	return map[string]func(){
		"token":           func() { h.revoke(token.ChangeToken, c.ID()) },
		"subject":         func() { h.revoke(token.ChangeSubject, "user-17") },
		"key":             func() { h.must(h.store.RevokeKey(ctx, "ak-demo", time.Now())) },
		"device disabled": func() { h.must(h.store.DisableDevice(ctx, "cam", true, time.Now())) },
		"device removed":  func() { h.must(h.store.RemoveDevice(ctx, "cam", time.Now())) },
		"device made anew": func() {
			h.must(h.store.RemoveDevice(ctx, "cam", time.Now()))
			h.must(h.store.AddDevice(ctx, token.Device{ID: "cam", App: "demo", Secret: "another-secret", Created: time.Now()}))
		},
	}
}

// A revocation that comes after the credential was verified and before the session is
// on the list: the credential was good, the authority's view is still the old one, and
// the commit waits at a barrier.
func TestRevocationBetweenVerifyAndListing(t *testing.T) {
	for _, moment := range []string{"before the commit", "after the commit", "before the commit, heard", "after the commit, heard"} {
		for what := range overtaking(nil, token.Connect{}) {
			t.Run(what+" "+moment, func(t *testing.T) {
				h := newHouse(t, false)
				c := h.claims()
				raw := h.sign(c)
				_, err := h.authority.Verify(t.Context(), raw) // its view is now, and it does not follow
				h.must(err)
				heard := make(chan token.Change, 10)
				h.authority.OnChange(func(c token.Change) { heard <- c })
				step := func() {
					overtaking(h, c)[what]()
					if strings.HasSuffix(moment, "heard") {
						h.follow()
						select {
						case <-heard:
						case <-time.After(deadline):
							t.Error("change is not heard")
						}
					}
				}
				if strings.HasPrefix(moment, "before") {
					h.ledger.beforeCommit = step
				} else {
					h.ledger.afterCommit = step
				}
				s, err := h.Admit(t.Context(), raw, toCam())
				if moment == "after the commit" {
					// The commit was first. The change finds a session, and ends it.
					h.must(err)
					h.follow()
					h.ended(s, session.Revoked)
					return
				}
				if !errors.Is(err, token.ErrRevoked) || len(h.List()) != 0 {
					t.Fatalf("got %v, %v", s, err)
				}
				live, err := h.store.Sessions(t.Context(), "demo", false, 0)
				h.must(err)
				if len(live) != 0 {
					t.Errorf("left behind: %+v", live)
				}
				if events := h.events("refused", 1); len(events) != 1 || events[0].Reason != "revoked" {
					t.Errorf("events %+v", events)
				}
			})
		}
	}
}

func TestChangesThatDoNotConcernItDoNotMatter(t *testing.T) {
	h := newHouse(t, false)
	raw := h.token()
	_, err := h.authority.Verify(t.Context(), raw)
	h.must(err)
	h.ledger.beforeCommit = func() {
		for i := range 300 { // more than is read at a time
			h.revoke(token.ChangeToken, fmt.Sprint("token-", i))
		}
		h.revoke(token.ChangeSubject, "user-18")
		h.revoke(token.ChangeSession, "session-of-another")
		h.must(h.store.DisableDevice(t.Context(), "cam2", true, time.Now()))
	}
	s, err := h.Admit(t.Context(), raw, toCam())
	h.must(err)
	h.ledger.beforeCommit = nil
	h.follow()
	h.revoke(token.ChangeToken, s.Grant.TokenID)
	h.ended(s, session.Revoked)
}
