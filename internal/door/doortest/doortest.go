// Package doortest is the exam every door must pass that lets callers in by a
// credential, and the house it is held in: a node with the real store, bus,
// authority and gate.
package doortest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// patient bounds every wait of the exam.
const patient = 10 * time.Second

// Candidate is a door under test.
type Candidate struct {
	// Open builds the door on a node.
	Open func(t *testing.T, h *House) door.WebDoor

	// Prepare does what a caller needs who is let in, such as bringing a device
	// online at url. It ends with ctx.
	Prepare func(ctx context.Context, t *testing.T, h *House, url string)

	// Enter speaks the door's protocol as a client: it offers the credential for
	// the resource and stays inside. It returns an error when it is refused or
	// thrown out, and nil when ctx ends.
	Enter func(ctx context.Context, url, resource, credential string) error
}

// Run puts the candidate through the exam.
func Run(t *testing.T, c Candidate) {
	before := runtime.NumGoroutine()
	h := Build(t, storetest.SQLite(t), bus.Config{Name: "exam"})
	url, stop := h.Serve(t, c.Open(t, h))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if c.Prepare != nil {
		c.Prepare(ctx, t, h, url)
	}
	x := &exam{c, h, url}
	t.Run("RefusesForgedToken", func(t *testing.T) {
		raw, _ := h.Token(t, "mallory", Cam)
		x.refuses(ctx, t, Cam, raw[:len(raw)-4]+"AAAA", "signature")
	})
	t.Run("RefusesAnotherResource", func(t *testing.T) {
		raw, _ := h.Token(t, "mallory", Cam)
		x.refuses(ctx, t, OtherCam, raw, string(access.WrongResource))
	})
	t.Run("RefusesSpentToken", func(t *testing.T) { x.refusesSpent(ctx, t) })
	t.Run("RevocationEndsWhatWasLetIn", func(t *testing.T) { x.revokes(ctx, t) })

	cancel()
	stop()
	h.Close()
	if !Eventually(func() bool { return runtime.NumGoroutine() <= before }) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines left behind:\n%s", runtime.NumGoroutine()-before, stacks[:runtime.Stack(stacks, true)])
	}
}

// exam is a house with one open door.
type exam struct {
	Candidate
	*House
	url string
}

// refuses fails the candidate when it keeps a caller who should be turned away, or
// when the audit trail does not know why.
func (x *exam) refuses(ctx context.Context, t *testing.T, device, credential, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	err := x.Enter(ctx, x.url, access.DeviceResource(device), credential)
	switch {
	case ctx.Err() != nil:
		t.Error("neither let in nor refused in time, or let in")
	case err == nil:
		t.Error("was let in")
	}
	if !Eventually(func() bool { return slices.Contains(x.Refusals(t), reason) }) {
		t.Errorf("refusals in the audit trail: %q, want %q", x.Refusals(t), reason)
	}
}

func (x *exam) refusesSpent(ctx context.Context, t *testing.T) {
	raw, c := x.Token(t, "alice", Cam)
	leave := x.enter(ctx, t, raw, c)
	x.refuses(ctx, t, Cam, raw, "spent")
	if err := leave(); err != nil {
		t.Errorf("who spent the token was thrown out: %v", err)
	}
}

func (x *exam) revokes(ctx context.Context, t *testing.T) {
	raw, c := x.Token(t, "bob", Cam)
	inside, left := context.WithCancel(ctx)
	defer left()
	out := make(chan error, 1)
	go func() { out <- x.Enter(inside, x.url, access.DeviceResource(Cam), raw) }()
	x.awaitInside(t, c.ID())
	begin := time.Now()
	x.Revoke(t, token.ChangeToken, c.ID())
	select {
	case err := <-out:
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if err == nil {
			t.Error("left by itself")
		}
	case <-time.After(patient):
		t.Fatal("is still inside")
	}
}

// enter lets a caller in and returns how to leave again, which reports whether the
// caller was thrown out before.
func (x *exam) enter(ctx context.Context, t *testing.T, raw string, c token.Connect) (leave func() error) {
	t.Helper()
	inside, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	out := make(chan error, 1)
	go func() { out <- x.Enter(inside, x.url, access.DeviceResource(Cam), raw) }()
	x.awaitInside(t, c.ID())
	return func() error {
		cancel()
		select {
		case err := <-out:
			return err
		case <-time.After(patient):
			return fmt.Errorf("cannot leave within %v", patient)
		}
	}
}

func (x *exam) awaitInside(t *testing.T, tokenID string) {
	t.Helper()
	entered := func() bool {
		for _, s := range x.Gate.List() {
			if s.Grant.TokenID == tokenID {
				return true
			}
		}
		return false
	}
	if !Eventually(entered) {
		t.Fatalf("was not let in; refusals: %q", x.Refusals(t))
	}
}
