package session_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// callers present tokens at the same time, so that group commit has something to group.
const callers = 128

// BenchmarkAdmit lets callers in with fresh tokens, from the text to the durable
// session. Compare BenchmarkLedgerAlone, which is the same commit without the gate.
func BenchmarkAdmit(b *testing.B) {
	h := newHouse(b, true)
	tokens := make([]string, b.N)
	for i := range tokens {
		tokens[i] = h.token()
	}
	inParallel(b, func(i int) error {
		_, err := h.Admit(b.Context(), tokens[i], toCam())
		return err
	})
}

func BenchmarkLedgerAlone(b *testing.B) {
	h := newHouse(b, false)
	inParallel(b, func(int) error {
		_, err := h.store.Admit(b.Context(), access.Admission{
			Session: token.NewNonce(), Node: "node-1", Door: "device", At: time.Now(), From: "192.0.2.7",
			Spends: token.NewNonce(), SpentTill: time.Now().Add(time.Hour),
			Ticket: token.NewSecret(), TicketEnd: time.Now().Add(time.Minute),
			Grant: access.Grant{App: "demo", Subject: "user-17", Resource: "device:cam",
				Actions: []access.Action{access.Connect}, TokenID: token.NewNonce(), KeyID: "ak-demo"},
		})
		return err
	})
}

func inParallel(b *testing.B, f func(i int) error) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := f(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "admissions/s")
}
