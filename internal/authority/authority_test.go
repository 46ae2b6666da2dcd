package authority_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

// house is an authority over a real store, with a clock that stands still unless
// it is moved. Once it is moved by more than two seconds, the authority looks at the
// change log again.
type house struct {
	*authority.Authority
	store *store.Store
	clock atomic.Int64
	t     testing.TB
}

const (
	appSecret    = "app-secret-key"
	deviceSecret = "device-secret-key"
)

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{t: t}
	h.clock.Store(time.Now().Truncate(time.Second).UnixNano())
	var master [32]byte
	rand.Read(master[:])
	var err error
	h.store, err = store.Open(t.Context(), store.Config{Dir: t.TempDir(), MasterKey: master})
	h.must(err)
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, app := range []string{"demo", "other"} {
		h.must(h.store.CreateApp(t.Context(), token.App{Name: app, Created: h.now()}))
		h.must(h.store.AddKey(t.Context(), token.Key{ID: "ak-" + app, App: app, Secret: appSecret, Created: h.now()}))
		h.must(h.store.AddDevice(t.Context(), token.Device{ID: "dev-" + app, App: app, Secret: deviceSecret, Created: h.now()}))
	}
	h.Authority = authority.New(h.store, h.now, slog.New(slog.DiscardHandler))
	return h
}

func (h *house) now() time.Time { return time.Unix(0, h.clock.Load()) }

func (h *house) pass(d time.Duration) { h.clock.Add(int64(d)) }

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) connect() token.Connect {
	return token.Connect{
		Subject: "user-17", DeviceID: "dev-demo", KeyID: "ak-demo", Nonce: token.NewNonce(),
		Issued: h.now(), Expires: h.now().Add(5 * time.Minute),
	}
}

func (h *house) sign(c token.Connect) string {
	h.t.Helper()
	raw, err := token.SignConnect(c, token.Secrets{App: appSecret, Device: deviceSecret})
	h.must(err)
	return raw
}

// run starts Run and makes sure that it has ended before the test has.
func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				h.t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			h.t.Error("Run does not return")
		}
	})
}

// refuses checks that err refuses for the reason, or is nil when there is none.
func refuses(t *testing.T, err error, reason string) {
	t.Helper()
	if (err == nil) != (reason == "") || token.Reason(err) != reason {
		t.Errorf("refused as %q (%v), want %q", token.Reason(err), err, reason)
	}
}
