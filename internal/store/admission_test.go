package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// admission is one of subject "ann" to device "cam", good in every respect.
func admission(session, spends string, at time.Time) access.Admission {
	return access.Admission{
		Session: session, Door: "device", From: "192.0.2.1:4711", Node: "n1", At: at,
		Grant: access.Grant{App: "shop", Subject: "ann", Resource: "device:cam", Actions: []access.Action{access.Connect},
			TokenID: spends, KeyID: "k1"},
		Spends: spends, SpentTill: at.Add(time.Hour),
		Ticket: "ticket of " + session, TicketEnd: at.Add(2 * time.Minute),
	}
}

func admit(t testing.TB, ctx context.Context, s *store.Store, a access.Admission) {
	t.Helper()
	value(s.Admit(ctx, a))(t)
}

// trail returns kind and reason of the app's audit events, the oldest first.
func trail(t testing.TB, ctx context.Context, s *store.Store) (lines []string) {
	t.Helper()
	events := value(s.Events(ctx, "shop", "", 0))(t)
	for i := range events {
		e := events[len(events)-1-i]
		lines = append(lines, e.Session+" "+e.Kind+" "+e.Reason)
	}
	return lines
}

func TestAdmitsOnceAndSaysSo(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		addApp(t, ctx, s, "shop")
		same(t, value(s.Spent(ctx, "t1"))(t), false)
		same(t, value(s.Admit(ctx, admission("s1", "t1", at)))(t), value(s.Revision(ctx))(t))
		same(t, value(s.Spent(ctx, "t1"))(t), true)
		_, err := s.Admit(ctx, admission("s2", "t1", at.Add(time.Second)))
		want(t, err, token.ErrSpent)
		same(t, value(s.Session(ctx, "s1"))(t), access.Entry{ID: "s1", App: "shop", Subject: "ann", Door: "device",
			Actions: []access.Action{access.Connect}, Target: "device:cam", From: "192.0.2.1:4711", Node: "n1",
			TokenID: "t1", KeyID: "k1", Started: at})
		_, err = s.Session(ctx, "s2")
		want(t, err, token.ErrUnknown)
		same(t, trail(t, ctx, s), []string{"s1 admitted ", "s2 refused spent"})
		e := value(s.Events(ctx, "shop", "", 1))(t)[0]
		same(t, e, access.Event{ID: e.ID, At: at.Add(time.Second), App: "shop", Kind: "refused", Reason: "spent", Door: "device",
			Action: access.Connect, Resource: "device:cam", Subject: "ann", TokenID: "t1", KeyID: "k1", Session: "s2",
			From: "192.0.2.1:4711", Node: "n1"})
	})
}

func TestTheSameAdmissionMayBeTriedAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		for range 3 {
			admit(t, ctx, s, admission("s1", "t1", at))
		}
		same(t, len(value(s.Sessions(ctx, "shop", true, 0))(t)), 1)
	})
}

func TestACredentialThatIsNotOneTimeAdmitsManyTimes(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		for i := range 3 {
			a := admission(fmt.Sprint("s", i), "t1", start())
			a.Spends, a.Ticket = "", ""
			admit(t, ctx, s, a)
		}
		same(t, len(value(s.Sessions(ctx, "shop", false, 0))(t)), 3)
	})
}

func TestAbortMakesTheTokenGoodAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		check(t, s.Abort(ctx, "s2", "device_timeout", at)) // the loser's undoing does nothing to the winner
		_, err := s.Admit(ctx, admission("s3", "t1", at))
		want(t, err, token.ErrSpent)
		check(t, s.Abort(ctx, "s1", "device_timeout", at))
		check(t, s.Abort(ctx, "s1", "device_timeout", at))
		_, err = s.Ticket(ctx, "ticket of s1")
		want(t, err, token.ErrUnknown)
		same(t, value(s.Session(ctx, "s1"))(t).Reason, "device_timeout")
		admit(t, ctx, s, admission("s4", "t1", at))
		same(t, trail(t, ctx, s), []string{"s1 admitted ", "s3 refused spent", "s1 aborted device_timeout", "s4 admitted "})
	})
}

func TestAbortAfterTheEndChangesNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		check(t, s.End(ctx, "s1", "kicked", true, at))
		check(t, s.Abort(ctx, "s1", "late", at))
		_, err := s.Admit(ctx, admission("s2", "t1", at))
		want(t, err, token.ErrSpent)
	})
}

func resumption(session, replaces string, at time.Time) access.Admission {
	a := admission(session, "t1", at)
	a.Spends, a.Replaces = "", replaces
	return a
}

func TestResumingReplacesTheSession(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		first := admission("s1", "t1", at)
		first.Grant.Expires = at.Add(time.Hour)
		admit(t, ctx, s, first)
		same(t, value(s.Ticket(ctx, "ticket of s1"))(t), token.Claims{Kind: token.KindTicket, ID: "t1", App: "shop", KeyID: "k1",
			Subject: "ann", Resource: "device:cam", Actions: []string{"connect"}, Issued: at, Expires: at.Add(2 * time.Minute),
			Session: "s1", Until: at.Add(time.Hour)})
		admit(t, ctx, s, resumption("s2", "s1", at.Add(time.Minute)))
		old := value(s.Session(ctx, "s1"))(t)
		same(t, []any{old.Ended, old.Reason}, []any{at.Add(time.Minute), "resumed"})
		same(t, value(s.Ticket(ctx, "ticket of s2"))(t).Session, "s2")
		log := value(s.Changes(ctx, 0, 0))(t)
		same(t, log, []token.Change{{Revision: 1, Kind: token.ChangeSession, App: "shop", ID: "s1", At: at.Add(time.Minute)}})
		same(t, trail(t, ctx, s), []string{"s1 admitted ", "s2 admitted ", "s1 ended resumed"})

		_, err := s.Admit(ctx, resumption("s3", "s1", at)) // came with the same ticket, a moment too late
		want(t, err, token.ErrSpent)
		admit(t, ctx, s, resumption("s2", "s1", at.Add(time.Minute)))
		same(t, len(value(s.Sessions(ctx, "", false, 0))(t)), 1)
	})
}

func TestALostAnswerDoesNotLockTheClientOut(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		admit(t, ctx, s, resumption("s2", "s1", at)) // the client never hears of it
		c := value(s.Ticket(ctx, "ticket of s1"))(t)
		same(t, []any{c.Session, c.Expires}, []any{"s2", at.Add(30 * time.Second)})
		admit(t, ctx, s, resumption("s3", c.Session, at))
		live := value(s.Sessions(ctx, "shop", false, 0))(t)
		if len(live) != 1 || live[0].ID != "s3" {
			t.Fatalf("live: %+v", live)
		}
	})
}

func TestAbortOfAResumptionGivesTheTicketBack(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		admit(t, ctx, s, resumption("s2", "s1", at))
		check(t, s.Abort(ctx, "s2", "device_offline", at))
		same(t, value(s.Ticket(ctx, "ticket of s1"))(t).Session, "s1")
		admit(t, ctx, s, resumption("s3", "s1", at))
	})
}

func TestRefusesToSpendAndReplaceAtOnce(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	a := admission("s2", "t1", start())
	a.Replaces = "s1"
	if _, err := s.Admit(t.Context(), a); err == nil {
		t.Fatal("admitted")
	}
}

func TestRenewedTicketsOverlap(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		for range 2 { // the second time its answer was lost
			check(t, s.RenewTicket(ctx, "s1", "ticket of s1", "second", at.Add(4*time.Minute)))
		}
		same(t, value(s.Ticket(ctx, "second"))(t).Expires, at.Add(4*time.Minute))
		if left := value(s.Ticket(ctx, "ticket of s1"))(t).Expires.Sub(at); left > 40*time.Second || left < 30*time.Second {
			t.Errorf("the old one is good for another %v", left)
		}
		want(t, s.RenewTicket(ctx, "s1", "never made", "third", at), token.ErrUnknown)
		want(t, s.RenewTicket(ctx, "s2", "second", "third", at), token.ErrUnknown)
		check(t, s.End(ctx, "s1", "failed", false, at))
		want(t, s.RenewTicket(ctx, "s1", "second", "third", at), token.ErrUnknown)
		same(t, value(s.Ticket(ctx, "second"))(t).Session, "s1") // a lost connection is what it is for
		check(t, s.End(ctx, "s1", "kicked", true, at))
		_, err := s.Ticket(ctx, "second")
		want(t, err, token.ErrUnknown)
		same(t, value(s.Session(ctx, "s1"))(t).Reason, "failed") // it ended once
	})
}

// TestOneWinnerForEachToken lets callers of two stores fight for every token.
func TestOneWinnerForEachToken(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c := config(t)
			stores := []*store.Store{storetest.Open(t, c)}
			if name == "postgres" {
				stores = append(stores, storetest.Open(t, c)) // another node
			}
			const callers, tokens = 128, 100
			wins := race(callers, func(i int) map[int]bool {
				won := map[int]bool{}
				for n := range tokens {
					tok := (n + i/8) % tokens // groups of eight run against each other, and groups meet
					_, err := stores[i%len(stores)].Admit(ctx, admission(fmt.Sprintf("s%d-%d", i, n), fmt.Sprint("t", tok), start()))
					if err == nil {
						won[tok] = true
					} else if !errors.Is(err, token.ErrSpent) {
						t.Error(err)
						return won
					}
				}
				return won
			})
			winners := map[int]int{}
			for _, won := range wins {
				for tok := range won {
					winners[tok]++
				}
			}
			for tok := range tokens {
				if winners[tok] != 1 {
					t.Errorf("token %d has %d winners", tok, winners[tok])
				}
			}
			same(t, len(value(stores[0].Sessions(ctx, "shop", false, 0))(t)), tokens)
		})
	}
}

// TestOneWinnerForEachTicket does the same for resumptions.
func TestOneWinnerForEachTicket(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		for n := range 20 {
			old := fmt.Sprint("old", n)
			admit(t, ctx, s, admission(old, fmt.Sprint("t", n), start()))
			errs := race(32, func(i int) error {
				_, err := s.Admit(ctx, resumption(fmt.Sprintf("s%d-%d", n, i), old, start()))
				return err
			})
			winners := 0
			for _, err := range errs {
				if err == nil {
					winners++
				} else {
					want(t, err, token.ErrSpent)
				}
			}
			same(t, winners, 1)
		}
		same(t, len(value(s.Sessions(ctx, "shop", false, 0))(t)), 20)
	})
}
