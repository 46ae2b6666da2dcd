package doortest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

// What every house is furnished with.
const (
	App          = "exam"
	AccessID     = "exam-key"
	SecretKey    = "exam-secret-key"
	DeviceSecret = "exam-device-secret"
	Cam          = "CAM1" // a device
	OtherCam     = "CAM2" // another device of the same app
)

// House is a node without doors: the real store, bus, authority and gate.
type House struct {
	Name      string
	Store     *store.Store
	Bus       *bus.Bus
	Authority *authority.Authority
	Gate      *session.Gate
	Log       *slog.Logger

	cancel  context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
}

// Build opens a node on a store and a bus, and furnishes it. Two nodes on one
// PostgreSQL and one NATS are a cluster. It closes with the test.
func Build(t testing.TB, sc store.Config, bc bus.Config) *House {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	sc.Log, bc.Log = log, log
	ctx, cancel := context.WithCancel(context.Background())
	h := &House{Name: bc.Name, Log: log, cancel: cancel}
	var err error
	if h.Store, err = store.Open(ctx, sc); err != nil {
		t.Fatal(err)
	}
	if h.Bus, err = bus.Open(ctx, bc); err != nil {
		t.Fatal(errors.Join(err, h.Store.Close()))
	}
	h.Authority = authority.New(h.Store, time.Now, log)
	h.Gate = session.NewGate(session.Config{Node: h.Name, Now: time.Now, Log: log}, h.Authority, h.Store, h.Authority)
	t.Cleanup(h.Close)
	h.furnish(t)
	h.running.Go(func() { h.Authority.Run(ctx) })
	return h
}

// Close ends the node. Its doors have to have returned.
func (h *House) Close() {
	h.closing.Do(func() {
		h.cancel()
		h.running.Wait()
		h.Gate.Close()
		h.Bus.Close()
		h.Store.Close()
	})
}

func (h *House) furnish(t testing.TB) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	for _, err := range []error{
		h.Store.CreateApp(ctx, token.App{Name: App, Created: now}),
		h.Store.AddKey(ctx, token.Key{ID: AccessID, App: App, Secret: SecretKey, Created: now}),
		h.Store.AddDevice(ctx, token.Device{ID: Cam, App: App, Secret: DeviceSecret, Created: now}),
		h.Store.AddDevice(ctx, token.Device{ID: OtherCam, App: App, Secret: DeviceSecret, Created: now}),
	} {
		if err != nil && !errors.Is(err, store.ErrExists) { // another node of the cluster was first
			t.Fatal(err)
		}
	}
}

// Serve mounts a door on a listener of its own and serves both until stop, or the
// end of the test. stop waits, and reports a door that does not return.
func (h *House) Serve(t testing.TB, d door.WebDoor) (url string, stop func()) {
	t.Helper()
	w, err := door.NewWeb(door.Config{HTTP: "127.0.0.1:0"}, h.Log)
	if err != nil {
		t.Fatal(err)
	}
	w.Mount(d)
	if err := w.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- w.Serve(ctx) }()
	go func() { done <- d.Serve(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			for range 2 {
				select {
				case err := <-done:
					if err != nil {
						t.Errorf("Serve: %v", err)
					}
				case <-time.After(patient):
					t.Error("Serve is still running after its context ended")
				}
			}
		})
	}
	t.Cleanup(stop)
	return "http://" + w.Addr("http"), stop
}

// Token signs a connect token for a device, good for five minutes.
func (h *House) Token(t testing.TB, subject, deviceID string) (raw string, c token.Connect) {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	c = token.Connect{Subject: subject, DeviceID: deviceID, KeyID: AccessID, Issued: now,
		Expires: now.Add(5 * time.Minute), Nonce: token.NewNonce()}
	raw, err := token.SignConnect(c, token.Secrets{App: SecretKey, Device: DeviceSecret})
	if err != nil {
		t.Fatal(err)
	}
	return raw, c
}

// Revoke puts a change into the log, as an operator's command would.
func (h *House) Revoke(t testing.TB, kind token.ChangeKind, id string) {
	t.Helper()
	now := time.Now()
	if _, err := h.Store.Revoke(t.Context(), token.Change{Kind: kind, App: App, ID: id, At: now}, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// Refusals returns the true reasons of the refusals in the audit trail, the
// newest first.
func (h *House) Refusals(t testing.TB) (reasons []string) {
	t.Helper()
	for _, e := range h.Events(t) {
		if e.Kind == "refused" {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// Events returns the audit trail, the newest first.
func (h *House) Events(t testing.TB) []access.Event {
	t.Helper()
	all, err := h.Store.Events(t.Context(), "", "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Client is an HTTP client that keeps no connections, so that none is left when
// goroutines are counted.
func Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// Eventually waits for ok, for as long as the exam is patient.
func Eventually(ok func() bool) bool {
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}
