package authority_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

const deadline = 10 * time.Second

func TestChangesArriveInOrderAndWithinASecond(t *testing.T) {
	h := newHouse(t)
	heard := make(chan token.Change, 1000)
	h.OnChange(func(c token.Change) { heard <- c })
	_, err := h.Verify(t.Context(), h.sign(h.connect())) // from here on it follows
	h.must(err)
	h.run()
	const n = 600 // more than is read at a time
	for i := range n {
		h.revoke(token.ChangeToken, fmt.Sprint("token-", i))
	}
	last := time.Now()
	for i := range n {
		select {
		case c := <-heard:
			if c.Kind != token.ChangeToken || c.ID != fmt.Sprint("token-", i) {
				t.Fatalf("change %d is %+v", i, c)
			}
		case <-time.After(deadline):
			t.Fatalf("change %d does not arrive", i)
		}
	}
	if took := time.Since(last); took > time.Second {
		t.Errorf("the last change took %v", took)
	}
}

func TestWakeHurriesIt(t *testing.T) {
	h := newHouse(t)
	heard := make(chan time.Time, 100)
	h.OnChange(func(token.Change) { heard <- time.Now() })
	_, err := h.Verify(t.Context(), h.sign(h.connect()))
	h.must(err)
	h.run()
	var fastest time.Duration = time.Hour
	for range 5 {
		h.revoke(token.ChangeToken, token.NewNonce())
		began := time.Now()
		h.Wake()
		select {
		case at := <-heard:
			fastest = min(fastest, at.Sub(began))
		case <-time.After(deadline):
			t.Fatal("change does not arrive")
		}
	}
	if fastest > 100*time.Millisecond {
		t.Errorf("took %v at best; that was the poll and not the wake", fastest)
	}
}

// slowKeeper counts what is read, and can fail.
type slowKeeper struct {
	*store.Store
	keys, devices, apps atomic.Int64
	broken              atomic.Bool
}

func (k *slowKeeper) Key(ctx context.Context, id string) (token.Key, error) {
	k.keys.Add(1)
	return k.Store.Key(ctx, id)
}

func (k *slowKeeper) Device(ctx context.Context, id string) (token.Device, error) {
	k.devices.Add(1)
	return k.Store.Device(ctx, id)
}

func (k *slowKeeper) App(ctx context.Context, name string) (token.App, error) {
	k.apps.Add(1)
	return k.Store.App(ctx, name)
}

func (k *slowKeeper) Changes(ctx context.Context, after int64, limit int) ([]token.Change, error) {
	if k.broken.Load() {
		return nil, errors.New("connection lost")
	}
	return k.Store.Changes(ctx, after, limit)
}

func TestReadsRecordsOnceUntilOneChanges(t *testing.T) {
	h := newHouse(t)
	k := &slowKeeper{Store: h.store}
	a := authority.New(k, h.now, slog.New(slog.DiscardHandler))
	verify := func(times int, reason string) {
		t.Helper()
		for range times {
			_, err := a.Verify(t.Context(), h.sign(h.connect()))
			refuses(t, err, reason)
		}
	}
	reads := func(want int64) {
		t.Helper()
		if k.keys.Load() != want || k.devices.Load() != want || k.apps.Load() != want {
			t.Errorf("read %d keys, %d devices, %d apps; want %d of each", k.keys.Load(), k.devices.Load(), k.apps.Load(), want)
		}
	}
	verify(10, "")
	reads(1)
	h.revoke(token.ChangeToken, "some-other") // changes no record
	h.pass(3 * time.Second)
	verify(10, "")
	reads(1)
	h.must(h.store.DisableDevice(t.Context(), "dev-demo", true, h.now()))
	h.pass(3 * time.Second)
	verify(10, "disabled")
	reads(2)
	for range 10 {
		c := h.connect()
		c.KeyID = "ak-nobody"
		_, err := a.Verify(t.Context(), h.sign(c))
		refuses(t, err, "unknown")
	}
	if got := k.keys.Load(); got != 3 {
		t.Errorf("an unknown key was read %d times", got-2)
	}
}

func TestJudgesNobodyByAStaleView(t *testing.T) {
	h := newHouse(t)
	k := &slowKeeper{Store: h.store}
	a := authority.New(k, h.now, slog.New(slog.DiscardHandler))
	raw := h.sign(h.connect())
	_, err := a.Verify(t.Context(), raw)
	h.must(err)
	k.broken.Store(true)
	if _, err = a.Verify(t.Context(), raw); err != nil {
		t.Errorf("a fresh view does for the moment: %v", err)
	}
	h.pass(3 * time.Second)
	if _, err = a.Verify(t.Context(), raw); err == nil || token.Reason(err) != "" {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
	k.broken.Store(false)
	_, err = a.Verify(t.Context(), raw)
	refuses(t, err, "")
}

// forgetful has a log whose first lines were purged.
type forgetful struct {
	*store.Store
	oldest atomic.Int64
}

func (k *forgetful) Changes(ctx context.Context, after int64, limit int) ([]token.Change, error) {
	if after+1 < k.oldest.Load() {
		return nil, store.ErrGap
	}
	return k.Store.Changes(ctx, after, limit)
}

func TestRunFailsWhenTheLogHasForgotten(t *testing.T) {
	h := newHouse(t)
	k := &forgetful{Store: h.store}
	a := authority.New(k, h.now, slog.New(slog.DiscardHandler))
	_, err := a.Verify(t.Context(), h.sign(h.connect()))
	h.must(err)
	for range 3 {
		h.revoke(token.ChangeToken, token.NewNonce())
	}
	n, err := h.store.Revision(t.Context())
	h.must(err)
	k.oldest.Store(n)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := a.Run(ctx); !errors.Is(err, store.ErrGap) || ctx.Err() != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestRunOutlivesABrokenStore(t *testing.T) {
	h := newHouse(t)
	k := &slowKeeper{Store: h.store}
	a := authority.New(k, h.now, slog.New(slog.DiscardHandler))
	heard := make(chan token.Change, 10)
	a.OnChange(func(c token.Change) { heard <- c })
	_, err := a.Verify(t.Context(), h.sign(h.connect()))
	h.must(err)
	k.broken.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	h.revoke(token.ChangeToken, "token-1")
	k.broken.Store(false)
	select {
	case <-heard:
	case <-time.After(deadline):
		t.Error("does not follow again")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestRevocationsThatAreOverAreForgotten(t *testing.T) {
	h := newHouse(t)
	c := h.connect()
	h.revoke(token.ChangeToken, c.ID())
	_, err := h.Verify(t.Context(), h.sign(c))
	refuses(t, err, "revoked")
	h.pass(2 * time.Hour) // revoke keeps them for one
	again := authority.New(h.store, h.now, slog.New(slog.DiscardHandler))
	c.Issued, c.Expires = h.now(), h.now().Add(time.Minute)
	_, err = again.Verify(t.Context(), h.sign(c))
	refuses(t, err, "")
}
