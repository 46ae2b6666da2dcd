package store_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestASessionEndsOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		admit(t, ctx, s, admission("s1", "t1", at))
		check(t, s.End(ctx, "s1", "kicked", true, at.Add(time.Second)))
		check(t, s.End(ctx, "s1", "again", true, at.Add(time.Minute)))
		check(t, s.End(ctx, "none", "kicked", true, at))
		entry := value(s.Session(ctx, "s1"))(t)
		same(t, []any{entry.Ended, entry.Reason}, []any{at.Add(time.Second), "kicked"})
		same(t, trail(t, ctx, s), []string{"s1 admitted ", "s1 ended kicked"})
		same(t, len(value(s.Sessions(ctx, "shop", false, 0))(t)), 0)
		same(t, len(value(s.Sessions(ctx, "shop", true, 0))(t)), 1)
	})
}

func TestListsTheNewestSessionsFirst(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		for i := range 5 {
			admit(t, ctx, s, admission(fmt.Sprint("s", i), fmt.Sprint("t", i), at.Add(time.Duration(i)*time.Second)))
		}
		zoo := admission("z", "z", at)
		zoo.Grant.App = "zoo"
		admit(t, ctx, s, zoo)
		page := value(s.Sessions(ctx, "shop", false, 2))(t)
		same(t, []string{page[0].ID, page[1].ID}, []string{"s4", "s3"})
		same(t, len(value(s.Sessions(ctx, "", false, 0))(t)), 6)
	})
}

func TestAnotherNodeAdoptsASession(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		admit(t, ctx, s, admission("s1", "t1", start()))
		same(t, value(s.Adopt(ctx, "s1", "n2"))(t).Node, "n2")
		same(t, value(s.Session(ctx, "s1"))(t).Node, "n2")
		check(t, s.End(ctx, "s1", "failed", false, start()))
		for _, id := range []string{"s1", "none"} {
			_, err := s.Adopt(ctx, id, "n3")
			want(t, err, token.ErrUnknown)
		}
	})
}

func TestSessionsOfASilentNodeAreLost(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		now := start()
		long := now.Add(-time.Hour)
		for _, node := range []string{"alive", "silent", "never heard of"} {
			a := admission(node, "t of "+node, long)
			a.Node = node
			admit(t, ctx, s, a)
		}
		young := admission("young", "t of young", now) // its node starts just now
		young.Node = "starting"
		admit(t, ctx, s, young)
		check(t, s.Heartbeat(ctx, "alive", long))
		check(t, s.Heartbeat(ctx, "alive", now))
		check(t, s.Heartbeat(ctx, "silent", now.Add(-6*time.Minute)))
		live := map[string]bool{}
		for _, e := range value(s.Sessions(ctx, "shop", false, 0))(t) {
			live[e.ID] = true
		}
		same(t, live, map[string]bool{"alive": true, "young": true})

		check(t, s.Purge(ctx, now))
		check(t, s.Purge(ctx, now))
		for _, id := range []string{"silent", "never heard of"} {
			e := value(s.Session(ctx, id))(t)
			same(t, []any{e.Reason, e.Ended}, []any{"lost", now})
		}
		log := value(s.Changes(ctx, 0, 0))(t)
		if len(log) != 2 || log[0].Kind != token.ChangeSession {
			t.Errorf("the nodes hear of %+v", log)
		}
		value(s.Ticket(ctx, "ticket of young"))(t)
	})
}

func TestPresenceFollowsTheLatestStart(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		p := access.Presence{DeviceID: "cam", Node: "n1", ClientID: "mac", Since: at, From: "192.0.2.1:1", Version: "v1"}
		_, err := s.Presence(ctx, "cam")
		want(t, err, token.ErrUnknown)
		same(t, value(s.Online(ctx, p))(t), int64(1))
		p.Node = "n2"
		same(t, value(s.Online(ctx, p))(t), int64(2))
		check(t, s.Offline(ctx, "cam", 1)) // the replaced connection's last word
		p.Epoch = 2
		same(t, value(s.Presence(ctx, "cam"))(t), p)
		check(t, s.Offline(ctx, "cam", 2))
		_, err = s.Presence(ctx, "cam")
		want(t, err, token.ErrUnknown)
		p.Since = at.Add(-time.Hour)
		same(t, value(s.Online(ctx, p))(t), int64(3)) // epochs outlive absence
		_, err = s.Presence(ctx, "cam")               // n2 was never heard of
		want(t, err, token.ErrUnknown)
		check(t, s.Heartbeat(ctx, "n2", at))
		same(t, value(s.Presence(ctx, "cam"))(t).Epoch, int64(3))
	})
}

func TestPurgeForgetsWhatIsUseless(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		now := start()
		day := 24 * time.Hour
		old := admission("old", "t old", now.Add(-100*day))
		old.Replaces = ""
		admit(t, ctx, s, old)
		check(t, s.End(ctx, "old", "done", true, now.Add(-31*day)))
		fresh := admission("fresh", "t fresh", now)
		admit(t, ctx, s, fresh)
		check(t, s.End(ctx, "fresh", "done", false, now))
		for i := range 2500 { // more than one statement takes
			check(t, s.Note(ctx, access.Event{At: now.Add(-91 * day), App: "shop", Kind: fmt.Sprint(i)}))
		}
		admit(t, ctx, s, admission("barrier", "t barrier", now)) // the notes are written by now
		check(t, s.Purge(ctx, now))

		_, err := s.Session(ctx, "old")
		want(t, err, token.ErrUnknown)
		value(s.Session(ctx, "fresh"))(t)
		value(s.Ticket(ctx, "ticket of fresh"))(t)
		_, err = s.Admit(ctx, admission("s2", "t fresh", now))
		want(t, err, token.ErrSpent)
		admit(t, ctx, s, admission("s3", "t old", now)) // expired long since: its verifier refuses it
		for _, e := range value(s.Events(ctx, "shop", "", 0))(t) {
			if e.At.Before(now.Add(-90 * day)) {
				t.Fatalf("still there: %+v", e)
			}
		}
		check(t, s.Purge(ctx, now.Add(time.Hour+time.Second)))
		admit(t, ctx, s, admission("s4", "t fresh", now))
	})
}

func TestTheAuditTrailIsPagedBackwards(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		at := start()
		for i := range 10 {
			check(t, s.Note(ctx, access.Event{At: at.Add(time.Duration(i/2) * time.Second), App: "shop", Kind: fmt.Sprint(i)}))
		}
		check(t, s.Note(ctx, access.Event{At: at, Kind: "of no app", Actor: "operator"}))
		check(t, s.Heartbeat(ctx, "n1", at)) // the notes are written by now
		var kinds []string
		for next, size := "", 3; size == 3; {
			page := value(s.Events(ctx, "shop", next, 3))(t)
			for _, e := range page {
				kinds = append(kinds, e.Kind)
			}
			size, next = len(page), page[len(page)-1].ID
		}
		same(t, strings.Join(kinds, ""), "9876543210") // those of one moment in their order, too
		_, err := s.Events(ctx, "shop", "no such event", 3)
		want(t, err, token.ErrUnknown)
		same(t, len(value(s.Events(ctx, "", "", 0))(t)), 11)
	})
}

func TestOutlandishTextCostsNoAuditEvent(t *testing.T) {
	onBoth(t, func(t *testing.T, ctx context.Context, s *store.Store) {
		check(t, s.Note(ctx, access.Event{At: start(), App: "shop", Kind: "refused", Subject: "a\x00b\xff", From: "\xc3\x28"}))
		a := admission("s1", "t1", start())
		a.Grant.Subject, a.From = "nul\x00", "\xff"
		admit(t, ctx, s, a)
		events := value(s.Events(ctx, "shop", "", 0))(t)
		same(t, len(events), 2)
		same(t, events[1].Subject, "a\uFFFDb\uFFFD")
	})
}
