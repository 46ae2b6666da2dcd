//go:build bench

package test

import (
	"os"
	"runtime/pprof"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

func TestZProf(t *testing.T) {
	cfg := storetest.SQLite(t)
	if os.Getenv("PG") != "" {
		cfg = storetest.Postgres(t)
	}
	c := openCounter(t, cfg)
	for _, w := range []struct {
		n string
		f func(int, int) float64
	}{{"raw", c.asRows}, {"gate", c.throughGate}, {"store", c.byStore}} {
		w.f(128, 30000)
		f, _ := os.Create("/tmp/bq/" + w.n + os.Getenv("PG") + ".prof")
		pprof.StartCPUProfile(f)
		r := w.f(128, 40000)
		pprof.StopCPUProfile()
		f.Close()
		progress("%s %.0f", w.n, r)
	}
}
