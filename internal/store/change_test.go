package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestEveryChangeOfARecordIsLogged(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		rule := access.Rule{App: "shop", Subject: "ann", Action: access.Connect, Resource: "device:cam"}
		for i, c := range []struct {
			does string
			do   func() error
			kind token.ChangeKind
			id   string
		}{
			{"create app", func() error { return s.CreateApp(ctx, token.App{Name: "shop"}) }, token.ChangeRecord, "shop"},
			{"set app", func() error { return s.SetApp(ctx, token.App{Name: "shop"}) }, token.ChangeRecord, "shop"},
			{"add key", func() error { return s.AddKey(ctx, token.Key{ID: "k1", App: "shop"}) }, token.ChangeRecord, "k1"},
			{"retire key", func() error { return s.RetireKey(ctx, "k1", at) }, token.ChangeRecord, "k1"},
			{"revoke key", func() error { return s.RevokeKey(ctx, "k1", at) }, token.ChangeKey, "k1"},
			{"add device", func() error { return s.AddDevice(ctx, token.Device{ID: "cam", App: "shop"}) }, token.ChangeRecord, "cam"},
			{"disable", func() error { return s.DisableDevice(ctx, "cam", true, at) }, token.ChangeDevice, "cam"},
			{"enable", func() error { return s.DisableDevice(ctx, "cam", false, at) }, token.ChangeRecord, "cam"},
			{"release", func() error { return s.ReleaseDevice(ctx, "cam") }, token.ChangeRecord, "cam"},
			{"remove", func() error { return s.RemoveDevice(ctx, "cam", at) }, token.ChangeDevice, "cam"},
			{"add rule", func() error { return s.AddRule(ctx, rule) }, token.ChangeRecord, "ann"},
			{"remove rule", func() error { return s.RemoveRule(ctx, rule) }, token.ChangeRecord, "ann"},
		} {
			check(t, c.do())
			same(t, value(s.Revision(ctx))(t), int64(i+1))
			log := value(s.Changes(ctx, int64(i), 10))(t)
			if len(log) != 1 || log[0].Kind != c.kind || log[0].ID != c.id || log[0].App != "shop" || log[0].Revision != int64(i+1) {
				t.Errorf("%s: logged %+v", c.does, log)
			}
		}
		// What fails changes nothing.
		want(t, s.RemoveRule(ctx, rule), token.ErrUnknown)
		same(t, value(s.Revision(ctx))(t), int64(12))
		if page := value(s.Changes(ctx, 3, 4))(t); len(page) != 4 || page[0].Revision != 4 {
			t.Errorf("got %+v", page)
		}
	})
}

func TestRevocationsHoldUntilTheirTime(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		revoke := func(kind token.ChangeKind, id string, at time.Time, until time.Duration) token.Change {
			return value(s.Revoke(ctx, token.Change{Kind: kind, App: "shop", ID: id, At: at}, at.Add(until)))(t)
		}
		tok := revoke(token.ChangeToken, "t1", at, time.Minute)
		revoke(token.ChangeSubject, "ann", at, time.Hour)
		ann := revoke(token.ChangeSubject, "ann", at.Add(time.Second), time.Minute) // the longer time stays
		revoke(token.ChangeSession, "s1", at, time.Hour)
		same(t, value(s.Revocations(ctx, at))(t), []token.Change{tok, ann})
		same(t, value(s.Revocations(ctx, at.Add(2*time.Minute)))(t), []token.Change{ann})
		same(t, value(s.Revocations(ctx, at.Add(2*time.Hour)))(t), []token.Change{})
		same(t, len(value(s.Changes(ctx, 0, 0))(t)), 4)
		for _, kind := range []token.ChangeKind{token.ChangeKey, token.ChangeDevice, token.ChangeRecord, ""} {
			if _, err := s.Revoke(ctx, token.Change{Kind: kind, ID: "x"}, at); err == nil {
				t.Errorf("revokes a %q", kind)
			}
		}
		check(t, s.Purge(ctx, at.Add(2*time.Minute)))
		same(t, value(s.Revocations(ctx, at))(t), []token.Change{ann})
	})
}

func TestReaderWhoIsTooFarBehindIsTold(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		old := start().Add(-40 * 24 * time.Hour)
		for i := range 3 {
			value(s.Revoke(ctx, token.Change{Kind: token.ChangeSession, ID: fmt.Sprint(i), At: old}, old))(t)
		}
		check(t, s.Purge(ctx, start()))
		_, err := s.Changes(ctx, 0, 10)
		want(t, err, store.ErrGap)
		same(t, len(value(s.Changes(ctx, 2, 10))(t)), 1) // the latest is always kept
		same(t, len(value(s.Changes(ctx, 3, 10))(t)), 0)
	})
}

// TestTheLogNeverShowsAGap follows the log while two nodes write it: whoever sees
// revision n must have been able to see n-1.
func TestTheLogNeverShowsAGap(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c := config(t)
			one := storetest.Open(t, c)
			two := one
			if name == "postgres" {
				two = storetest.Open(t, c)
			}
			const writers, each = 8, 40
			var all sync.WaitGroup
			for w := range writers {
				s := []*store.Store{one, two}[w%2]
				all.Go(func() {
					for i := range each {
						change := token.Change{Kind: token.ChangeSession, ID: fmt.Sprintf("%d-%d", w, i), At: start()}
						if _, err := s.Revoke(ctx, change, start()); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			seen := int64(0)
			for seen < writers*each && ctx.Err() == nil && !t.Failed() {
				log, err := two.Changes(ctx, seen, 7) // ErrGap if there is one
				check(t, err)
				for _, c := range log {
					if c.Revision != seen+1 {
						t.Fatalf("revision %d follows %d", c.Revision, seen)
					}
					seen++
				}
			}
			all.Wait()
			same(t, value(one.Revision(ctx))(t), int64(writers*each))
		})
	}
}
