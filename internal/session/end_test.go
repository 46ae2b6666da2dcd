package session_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestRevocationEndsSessionsWithinASecond(t *testing.T) {
	for what := range overtaking(nil, token.Connect{}) {
		t.Run(what, func(t *testing.T) {
			h := newHouse(t, true)
			c := h.claims()
			s, err := h.Admit(t.Context(), h.sign(c), toCam())
			h.must(err)
			overtaking(h, c)[what]()
			if took := h.ended(s, session.Revoked); took > time.Second {
				t.Errorf("took %v", took)
			}
			ticket, _ := s.Ticket()
			if _, err := h.Admit(t.Context(), ticket, toCam()); session.Code(err) != "token_refused" {
				t.Errorf("its ticket: %v", err)
			}
		})
	}
}

func TestKickEndsOneSession(t *testing.T) {
	h := newHouse(t, true)
	s, other := h.admit(), h.admit()
	h.revoke(token.ChangeSession, s.ID)
	if took := h.ended(s, session.Kicked); took > time.Second {
		t.Errorf("took %v", took)
	}
	if other.Reason() != "" || len(h.List()) != 1 {
		t.Errorf("the other one ended as %q", other.Reason())
	}
}

func TestSubjectRevocationSparesLaterTokens(t *testing.T) {
	h := newHouse(t, true)
	h.revoke(token.ChangeSubject, "user-17")
	c := h.claims()
	c.Issued = time.Now().Add(2 * time.Second) // a back end whose clock is a little ahead
	s, err := h.Admit(t.Context(), h.sign(c), toCam())
	h.must(err)
	other := h.claims()
	other.Subject = "user-18"
	s2, err := h.Admit(t.Context(), h.sign(other), toCam())
	h.must(err)
	h.revoke(token.ChangeSubject, "user-18")
	h.ended(s2, session.Revoked)
	if s.Reason() != "" {
		t.Errorf("ended as %q", s.Reason())
	}
}

func TestExpiryEndsSessionsWhereTheAppSaysSo(t *testing.T) {
	h := newHouse(t, false)
	c := h.claims()
	c.Issued, c.Expires = time.Now().Add(-time.Minute), time.Now().Add(2*time.Second)
	kept, err := h.Admit(t.Context(), h.sign(c), toCam())
	h.must(err)
	h.must(h.store.SetApp(t.Context(), token.App{Name: "demo", Policy: token.Policy{EndExpiry: true}}))
	h.openGate("node-1")
	c.Nonce = token.NewNonce()
	s, err := h.Admit(t.Context(), h.sign(c), toCam())
	h.must(err)
	if _, end := s.Ticket(); end.After(s.Grant.Expires) {
		t.Errorf("ticket lives until %v, session until %v", end, s.Grant.Expires)
	}
	h.ended(s, session.Expired)
	if late := time.Since(s.Grant.Expires); late < 0 || late > time.Second {
		t.Errorf("ended %v after its token", late)
	}
	if kept.Reason() != "" {
		t.Errorf("session of an app without the rule ended as %q", kept.Reason())
	}
}

func TestTicketOpensTheSameTargetAgain(t *testing.T) {
	h := newHouse(t, true)
	old := h.admit()
	ticket, _ := old.Ticket()
	wrong := toCam()
	wrong.Resource = "device:cam2"
	if _, err := h.Admit(t.Context(), ticket, wrong); session.Code(err) != "forbidden" {
		t.Errorf("another device: %v", err)
	}
	s, err := h.Admit(t.Context(), ticket, toCam())
	h.must(err)
	h.ended(old, session.Resumed)
	fresh, _ := s.Ticket()
	if s.Replaces != old.ID || s.ID == old.ID || fresh == ticket || s.Grant.Subject != "user-17" || s.Grant.TokenID != old.Grant.TokenID {
		t.Errorf("session %+v", s)
	}
	s.Abort("device_timeout")
	if _, err = h.Admit(t.Context(), ticket, toCam()); err != nil {
		t.Errorf("an attempt that failed took the ticket away: %v", err)
	}
}

func TestFailedResumptionElsewhereKeepsTheTicket(t *testing.T) {
	h := newHouse(t, true)
	old := h.admit()
	ticket, _ := old.Ticket()
	first := h.Gate
	h.openGate("node-2")
	s, err := h.Admit(t.Context(), ticket, toCam())
	h.must(err)
	s.Abort("device_refused") // before the first node has heard that its session was resumed
	select {
	case <-old.Context().Done():
	case <-time.After(deadline):
		t.Fatal("old session does not end")
	}
	first.Close() // it has written then what it had to
	if _, err := h.Admit(t.Context(), ticket, toCam()); err != nil {
		t.Errorf("ticket: %v", err)
	}
}

func TestTicketLivesAsLongAsItShould(t *testing.T) {
	for reason, good := range map[string]bool{
		session.Failed: true, session.Remote: true, session.Lost: true,
		session.Deleted: false, session.Kicked: false, session.Revoked: false, session.Expired: false, "device says no": false,
	} {
		t.Run(reason, func(t *testing.T) {
			h := newHouse(t, true)
			s := h.admit()
			ticket, _ := s.Ticket()
			s.End(reason)
			h.ended(s, reason)
			_, err := h.Admit(t.Context(), ticket, toCam())
			if good && err != nil || !good && session.Code(err) != "token_refused" {
				t.Errorf("ticket: %v", err)
			}
		})
	}
}

func TestOneTicketManyPresentations(t *testing.T) {
	h := newHouse(t, true)
	s := h.admit()
	ticket, _ := s.Ticket()
	const n = 50
	results := make(chan error, n)
	for range n {
		go func() {
			_, err := h.Admit(t.Context(), ticket, toCam())
			results <- err
		}()
	}
	for range n {
		if err := <-results; err != nil && session.Code(err) != "token_refused" {
			t.Errorf("got %v", err)
		}
	}
	// Those that come in one after another replace each other; there is one at the end.
	for end := time.Now().Add(deadline); len(h.List()) != 1; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d sessions inside", len(h.List()))
		}
	}
}

// Whatever ends the old session for good while its client is coming back keeps the
// client out.
func TestEndOfTheOldSessionWhileItIsResumed(t *testing.T) {
	for name, step := range map[string]func(h *house, old *session.Session){
		"kicked":           func(h *house, old *session.Session) { h.revoke(token.ChangeSession, old.ID) },
		"kicked and ended": func(h *house, old *session.Session) { h.revoke(token.ChangeSession, old.ID); old.End(session.Kicked) },
		"deleted":          func(_ *house, old *session.Session) { old.End(session.Deleted) },
		"token revoked":    func(h *house, old *session.Session) { h.revoke(token.ChangeToken, old.Grant.TokenID) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, false)
			old := h.admit()
			ticket, _ := old.Ticket()
			h.ledger.beforeCommit = func() { step(h, old) }
			s, err := h.Admit(t.Context(), ticket, toCam())
			if session.Code(err) != "token_refused" {
				t.Fatalf("got %v, %v", s, err)
			}
			h.ledger.beforeCommit = nil
			if s, err := h.Admit(t.Context(), ticket, toCam()); session.Code(err) != "token_refused" {
				t.Errorf("and then %v, %v", s, err)
			}
			h.follow()
			if live, err := h.store.Sessions(t.Context(), "demo", false, 0); err != nil || len(live) != 0 && live[0].ID != old.ID {
				t.Errorf("left behind: %+v, %v", live, err)
			}
		})
	}
}

func TestRenew(t *testing.T) {
	h := newHouse(t, false)
	s, other := h.admit(), h.admit()
	old, _ := s.Ticket()
	fresh, end, err := h.Renew(t.Context(), s.ID, old)
	h.must(err)
	if got, until := s.Ticket(); got != fresh || until != end || fresh == old {
		t.Errorf("session has %q until %v, renewed as %q until %v", got, until, fresh, end)
	}
	if _, err := h.authority.Verify(t.Context(), old); err != nil {
		t.Errorf("an answer that gets lost locks the client out: %v", err)
	}
	for name, c := range map[string]struct{ id, ticket string }{
		"another session's": {other.ID, fresh},
		"made up":           {s.ID, token.NewTicket()},
		"a connect token":   {s.ID, h.token()},
		"nothing":           {s.ID, ""},
	} {
		if got, _, err := h.Renew(t.Context(), c.id, c.ticket); session.Code(err) != "token_refused" || got != "" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	s.End(session.Deleted)
	if _, _, err := h.Renew(t.Context(), s.ID, fresh); session.Code(err) != "token_refused" {
		t.Errorf("after its end: %v", err)
	}
	if got := h.events("refused", 5); len(got) != 5 {
		t.Errorf("%d refusals written down, want 5", len(got))
	}
}

func TestRestartAdoptsWhatIsLive(t *testing.T) {
	h := newHouse(t, false)
	c := h.claims()
	s, err := h.Admit(t.Context(), h.sign(c), toCam())
	h.must(err)
	gone := h.admit()
	gone.End(session.Deleted)
	h.Close()
	h.openGate("node-2")
	again, err := h.Adopt(t.Context(), s.ID)
	h.must(err)
	if again.Grant.Subject != "user-17" || again.Grant.TokenID != c.ID() || !again.May(access.Connect, "device:cam") || again.Door != "device" {
		t.Errorf("adopted %+v", again)
	}
	if e, err := h.store.Session(t.Context(), s.ID); err != nil || e.Node != "node-2" {
		t.Errorf("entry %+v, %v", e, err)
	}
	if same, err := h.Adopt(t.Context(), s.ID); err != nil || same != again {
		t.Errorf("adopted twice: %v", err)
	}
	for _, id := range []string{gone.ID, "no-such-session"} {
		if _, err := h.Adopt(t.Context(), id); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("adopted %q: %v", id, err)
		}
	}
	h.follow()
	h.revoke(token.ChangeToken, c.ID())
	h.ended(again, session.Revoked)
}

func TestAdoptRefusesWhatEndedMeanwhile(t *testing.T) {
	for what := range overtaking(nil, token.Connect{}) {
		for _, moment := range []string{"while down", "while adopting"} {
			if what == "device made anew" && moment == "while down" {
				continue // the device has just proved that it has the new secret
			}
			t.Run(what+" "+moment, func(t *testing.T) {
				h := newHouse(t, false)
				c := h.claims()
				s, err := h.Admit(t.Context(), h.sign(c), toCam())
				h.must(err)
				h.Close()
				h.openGate("node-1")
				step := overtaking(h, c)[what]
				if moment == "while down" {
					step()
				} else {
					h.ledger.beforeAdopt = step
				}
				if _, err := h.Adopt(t.Context(), s.ID); session.Code(err) != "token_refused" || len(h.List()) != 0 {
					t.Fatalf("adopted: %v", err)
				}
				if e, err := h.store.Session(t.Context(), s.ID); err != nil || e.Ended.IsZero() {
					t.Errorf("entry %+v, %v", e, err)
				}
			})
		}
	}
}

func TestCloseLeavesSessionsLive(t *testing.T) {
	h := newHouse(t, false)
	s := h.admit()
	ticket, _ := s.Ticket()
	h.Close()
	if s.Context().Err() == nil || s.Reason() != session.Draining {
		t.Errorf("session goes on with reason %q", s.Reason())
	}
	if e, err := h.store.Session(t.Context(), s.ID); err != nil || !e.Ended.IsZero() {
		t.Errorf("entry %+v, %v", e, err)
	}
	if _, err := h.Admit(t.Context(), h.token(), toCam()); !errors.Is(err, session.ErrClosed) || session.Code(err) != "" {
		t.Errorf("closed gate: %v", err)
	}
	h.Close() // again, and nothing happens
	h.openGate("node-2")
	if _, err := h.Admit(t.Context(), ticket, toCam()); err != nil {
		t.Errorf("ticket did not survive the restart: %v", err)
	}
}

func TestCloseWaitsForAdmissionsUnderWay(t *testing.T) {
	h := newHouse(t, false)
	first, raw := h.admit(), h.token()
	closed := make(chan struct{})
	h.ledger.beforeCommit = func() {
		go func() {
			h.Close()
			close(closed)
		}()
		<-first.Context().Done() // everybody inside is told before Close waits
	}
	h.ledger.afterCommit = func() {
		select {
		case <-closed:
			t.Error("Close did not wait")
		default:
		}
	}
	if _, err := h.Admit(t.Context(), raw, toCam()); !errors.Is(err, session.ErrClosed) {
		t.Errorf("got %v", err)
	}
	select {
	case <-closed:
	case <-time.After(deadline):
		t.Fatal("Close does not return")
	}
	h.openGate("node-2")
	if _, err := h.Admit(t.Context(), raw, toCam()); err != nil {
		t.Errorf("token was lost: %v", err)
	}
}

func TestEndIsWrittenEvenIfTheStoreFailsForAMoment(t *testing.T) {
	h := newHouse(t, false)
	s := h.admit()
	var tries atomic.Int64
	h.ledger.beforeEnd = func() error {
		if tries.Add(1) == 1 {
			return errors.New("connection lost")
		}
		return nil
	}
	s.End(session.Kicked)
	h.ended(s, session.Kicked)
	if tries.Load() != 2 {
		t.Errorf("tried %d times", tries.Load())
	}
}

func TestLostSessionsOfOtherNodesAreLeftAlone(t *testing.T) {
	h := newHouse(t, false)
	s := h.admit()
	if _, err := h.store.Adopt(t.Context(), s.ID, "node-2"); err != nil {
		t.Fatal(err)
	}
	s.End(session.Lost)
	if e, err := h.store.Session(t.Context(), s.ID); err != nil || !e.Ended.IsZero() {
		t.Errorf("entry %+v, %v", e, err)
	}
	s = h.admit()
	s.Release()
	if e, err := h.store.Session(t.Context(), s.ID); err != nil || !e.Ended.IsZero() || s.Context().Err() == nil || len(h.List()) != 0 {
		t.Errorf("released, and %+v, %v", e, err)
	}
	s = h.admit()
	s.End(session.Lost)
	h.rowEnded(s.ID, session.Lost)
}

func TestListIsInOrderOfArrival(t *testing.T) {
	h := newHouse(t, false)
	var want []string
	for range 20 {
		want = append(want, h.admit().ID)
	}
	var got []string
	for _, s := range h.List() {
		got = append(got, s.ID)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCodesHideReasons(t *testing.T) {
	for _, c := range []struct {
		err          error
		reason, code string
	}{
		{nil, "", ""},
		{token.ErrMalformed, "malformed", "token_refused"},
		{token.ErrVersion, "version", "token_refused"},
		{token.ErrUnknown, "unknown", "token_refused"},
		{token.ErrDisabled, "disabled", "token_refused"},
		{token.ErrForeign, "foreign", "token_refused"},
		{token.ErrSignature, "signature", "token_refused"},
		{token.ErrLifetime, "lifetime", "token_refused"},
		{token.ErrRevoked, "revoked", "token_refused"},
		{token.ErrSpent, "spent", "token_refused"},
		{token.ErrExpired, "expired", "token_expired"},
		{token.ErrNotYetValid, "not_yet_valid", "token_not_yet_valid"},
		{access.WrongResource, "wrong_resource", "forbidden"},
		{access.NoRule, "no_rule", "forbidden"},
		{notReady{}, "device_offline", ""},
		{session.ErrClosed, "draining", ""},
		{context.Canceled, "cancelled", ""},
		{context.DeadlineExceeded, "timeout", ""},
		{store.ErrClosed, "failed", ""},
	} {
		err := c.err
		if err != nil {
			err = errors.Join(errors.New("cannot admit"), err)
		}
		if r, code := session.Reason(err), session.Code(err); r != c.reason || code != c.code {
			t.Errorf("%v: reason %q, code %q; want %q, %q", c.err, r, code, c.reason, c.code)
		}
	}
}
