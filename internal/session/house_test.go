package session_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

const (
	appSecret    = "app-secret-key"
	deviceSecret = "device-secret-key"
	deadline     = 10 * time.Second
)

// house is a gate with all it stands on: a real store and a real authority that
// follows it.
type house struct {
	*session.Gate
	store     *store.Store
	authority *authority.Authority
	ledger    *ledger
	t         testing.TB
}

// ledger is the store, with moments at which a test can step in.
type ledger struct {
	*store.Store
	beforeCommit func()
	afterCommit  func()
	beforeEnd    func() error
	beforeAdopt  func()
}

func (l *ledger) Admit(ctx context.Context, a access.Admission) (int64, error) {
	if l.beforeCommit != nil {
		l.beforeCommit()
	}
	n, err := l.Store.Admit(ctx, a)
	if l.afterCommit != nil {
		l.afterCommit()
	}
	return n, err
}

func (l *ledger) End(ctx context.Context, id, reason string, void bool, at time.Time) error {
	if l.beforeEnd != nil {
		if err := l.beforeEnd(); err != nil {
			return err
		}
	}
	return l.Store.End(ctx, id, reason, void, at)
}

func (l *ledger) Adopt(ctx context.Context, id, node string) (access.Entry, error) {
	if l.beforeAdopt != nil {
		l.beforeAdopt()
	}
	return l.Store.Adopt(ctx, id, node)
}

// newHouse builds a house. Its authority looks at the change log all by itself, as
// on a real node, if it follows; otherwise a test decides when it does.
func newHouse(t testing.TB, follows bool) *house {
	t.Helper()
	var master [32]byte
	rand.Read(master[:])
	s, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), MasterKey: master})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &house{t: t, store: s}
	h.must(s.CreateApp(t.Context(), token.App{Name: "demo", Created: time.Now()}))
	h.must(s.AddKey(t.Context(), token.Key{ID: "ak-demo", App: "demo", Secret: appSecret, Created: time.Now()}))
	h.must(s.AddDevice(t.Context(), token.Device{ID: "cam", App: "demo", Secret: deviceSecret, Created: time.Now()}))
	h.must(s.AddDevice(t.Context(), token.Device{ID: "cam2", App: "demo", Secret: deviceSecret, Created: time.Now()}))
	h.openGate("node-1")
	if follows {
		_, err := h.authority.Verify(t.Context(), h.token()) // from here on it follows
		h.must(err)
		h.follow()
	}
	return h
}

// openGate puts up a new authority and gate over the same store, as a restart does.
func (h *house) openGate(node string) {
	log := slog.New(slog.DiscardHandler)
	h.authority = authority.New(h.store, time.Now, log)
	h.ledger = &ledger{Store: h.store}
	h.Gate = session.NewGate(session.Config{Node: node, Log: log}, h.authority, h.ledger, h.authority)
	h.t.Cleanup(h.Close)
}

// follow runs the authority until the test is over.
func (h *house) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	a := h.authority
	go func() { done <- a.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.t.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			h.t.Error("Run does not return")
		}
	})
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) claims() token.Connect {
	return token.Connect{
		Subject: "user-17", DeviceID: "cam", KeyID: "ak-demo", Nonce: token.NewNonce(),
		Issued: time.Now(), Expires: time.Now().Add(5 * time.Minute),
	}
}

func (h *house) sign(c token.Connect) string {
	h.t.Helper()
	raw, err := token.SignConnect(c, token.Secrets{App: appSecret, Device: deviceSecret})
	h.must(err)
	return raw
}

func (h *house) token() string { return h.sign(h.claims()) }

// toCam is the request of somebody who wants to see the camera.
func toCam() access.Request {
	return access.Request{Action: access.Connect, Resource: access.DeviceResource("cam"), Door: "device", From: "192.0.2.7"}
}

func (h *house) admit() *session.Session {
	h.t.Helper()
	s, err := h.Admit(h.t.Context(), h.token(), toCam())
	h.must(err)
	return s
}

func (h *house) revoke(kind token.ChangeKind, id string) {
	h.t.Helper()
	c := token.Change{Kind: kind, App: "demo", ID: id, At: time.Now()}
	_, err := h.store.Revoke(context.Background(), c, time.Now().Add(time.Hour))
	h.must(err)
}

// ended waits until the session is over, here and on the durable list, and returns
// how long it took here.
func (h *house) ended(s *session.Session, reason string) time.Duration {
	h.t.Helper()
	began := time.Now()
	select {
	case <-s.Context().Done():
	case <-time.After(deadline):
		h.t.Fatalf("session does not end")
	}
	took := time.Since(began)
	if s.Reason() != reason {
		h.t.Errorf("ended as %q, want %q", s.Reason(), reason)
	}
	if _, ok := h.Session(s.ID); ok {
		h.t.Error("session is over and still on the list")
	}
	h.rowEnded(s.ID, reason)
	return took
}

func (h *house) rowEnded(id, reason string) {
	h.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		e, err := h.store.Session(context.Background(), id)
		h.must(err)
		if !e.Ended.IsZero() {
			if e.Reason != reason {
				h.t.Errorf("written down as %q, want %q", e.Reason, reason)
			}
			return
		}
		if time.Now().After(end) {
			h.t.Fatal("end of the session is not written down")
		}
	}
}

// events returns the audit trail of a kind, the newest first. Notes may be written a
// moment after their call returns, so it waits until there are at least n.
func (h *house) events(kind string, n int) []access.Event {
	h.t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		all, err := h.store.Events(context.Background(), "", "", 1000)
		h.must(err)
		var found []access.Event
		for _, e := range all {
			if e.Kind == kind {
				found = append(found, e)
			}
		}
		if len(found) >= n || time.Now().After(end) {
			return found
		}
	}
}
