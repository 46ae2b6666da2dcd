//go:build bench

package test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// admitAim is the least share of the raw commits that admissions are to reach, with
// admitCallers of them at a time.
const (
	admitAim     = 0.8
	admitCallers = 128
)

// TestBenchAdmit compares three ways to make admissions durable, by turns and in the
// same database, a new one for each number of callers: through the gate, with tokens signed beforehand; by the store alone,
// with admissions made beforehand; and raw, with rows made beforehand (bench_raw_test.go).
// Timed is from the first call to the last answer of as many callers, each of whom
// calls again as soon as he has his answer.
func TestBenchAdmit(t *testing.T) {
	r := newReport(t, "admit", "", "callers", "through the gate, 1/s", "store alone, 1/s", "raw commits, 1/s", "gate ÷ raw", "aim", "")
	ratio := chart{title: "Admissions, as a share of raw durable commits", x: "callers at once", y: "gate ÷ raw", logX: true,
		limits: []limit{{label: "aim: at least 0.8", at: admitAim}}}
	rate := chart{title: "Admissions and raw durable commits", x: "callers at once", y: "per second", logX: true}
	for _, db := range []struct {
		name   string
		config func(testing.TB) store.Config
	}{{"SQLite", storetest.SQLite}, {"PostgreSQL", storetest.Postgres}} {
		shares := curve{label: db.name, dots: true}
		gates, raws := curve{label: db.name + ", gate", dots: true}, curve{label: db.name + ", raw", dots: true}
		for _, callers := range []int{1, 16, admitCallers} {
			gate, alone, raw := openCounter(t, db.config(t)).alternate(db.name, callers)
			share := spreadOf(ratios(gate, raw))
			shares.points = append(shares.points, share.at(float64(callers)))
			gates.points = append(gates.points, spreadOf(gate).at(float64(callers)))
			raws.points = append(raws.points, spreadOf(raw).at(float64(callers)))
			cells := []string{db.name, strconv.Itoa(callers), spreadOf(gate).String(), spreadOf(alone).String(),
				spreadOf(raw).String(), share.String(), "", ""}
			if callers == admitCallers {
				cells[5], cells[6], cells[7] = "**"+share.String()+"**", fmt.Sprintf("≥ %g", admitAim), verdict(share.median >= admitAim)
			}
			r.row(cells...)
		}
		ratio.curves, rate.curves = append(ratio.curves, shares), append(rate.curves, gates, raws)
	}
	r.notes = []string{syncCost(t)}
	r.charts = []namedChart{{"admit", ratio}, {"admit-rate", rate}}
	r.write(t)
}

// counter is a store with an app, a key and devices, in front of which callers queue up.
type counter struct {
	t       *testing.T
	store   *store.Store
	verify  *authority.Authority
	key     token.Key
	devices []token.Device

	raw     *rawCommitter
	rawLike rawRows
	rawKeys map[string]bool
}

func openCounter(t *testing.T, config store.Config) *counter {
	t.Helper()
	c := &counter{t: t, store: storetest.Open(t, config)}
	now := time.Now()
	c.key = token.Key{ID: "bench", App: "bench", Secret: token.NewSecret(), Created: now}
	must(t, c.store.CreateApp(t.Context(), token.App{Name: "bench", Created: now}))
	must(t, c.store.AddKey(t.Context(), c.key))
	for i := range 100 {
		d := token.Device{ID: fmt.Sprintf("camera%04d", i), App: "bench", Secret: token.NewSecret(), Created: now}
		must(t, c.store.AddDevice(t.Context(), d))
		c.devices = append(c.devices, d)
	}
	c.verify = authority.New(c.store, time.Now, discard())
	running(t, c.verify.Run)

	gate := c.newGate()
	first, err := gate.Admit(t.Context(), c.token(0), c.request(0))
	must(t, err)
	db := openRaw(t, config)
	var inserts []string
	c.rawLike, inserts = readRows(t, db, first.ID)
	c.rawKeys = c.rawLike.keys()
	c.raw = startRaw(db, config.DSN != "", inserts, c.rawLike)
	t.Cleanup(c.raw.stop)
	return c
}

func (c *counter) newGate() *session.Gate {
	return session.NewGate(session.Config{Node: "bench", Now: time.Now, Log: discard()}, c.verify, c.store, c.verify)
}

// token signs a connect token, as a customer's back end does.
func (c *counter) token(i int) string {
	d, now := c.devices[i%len(c.devices)], time.Now()
	raw, err := token.SignConnect(token.Connect{Subject: "user-17", DeviceID: d.ID, KeyID: c.key.ID,
		Issued: now, Expires: now.Add(time.Hour), Nonce: token.NewNonce()}, token.Secrets{App: c.key.Secret, Device: d.Secret})
	must(c.t, err)
	return raw
}

func (c *counter) request(i int) access.Request {
	return access.Request{Action: access.Connect, Resource: access.DeviceResource(c.devices[i%len(c.devices)].ID),
		Door: "device", From: "192.0.2.1"}
}

// runTime is how long one run lasts.
func runTime() time.Duration {
	if quick() {
		return time.Second
	}
	return 1500 * time.Millisecond
}

// alternate measures the three ways by turns and returns their rates, run by run.
func (c *counter) alternate(name string, callers int) (gate, alone, raw []float64) {
	n := rounds(5)
	if callers == admitCallers {
		n = rounds(9)
	}
	ways := []func(callers, calls int) float64{c.throughGate, c.byStore, c.asRows}
	calls := 30_000 // more than a run takes; the first round tells how many it does
	for i := range n + 1 {
		rates := make([]float64, len(ways))
		for j := range ways {
			way := (i + j) % len(ways) // each goes first in its turn
			rates[way] = ways[way](callers, calls)
		}
		calls = int(2*slices.Max(rates)*runTime().Seconds()) + 1000
		if i == 0 {
			continue // to warm up
		}
		gate, alone, raw = append(gate, rates[0]), append(alone, rates[1]), append(raw, rates[2])
		progress("admit %s, %d callers, %d of %d: gate %.0f/s, store alone %.0f/s, raw %.0f/s, gate ÷ raw %.2f",
			name, callers, i, n, rates[0], rates[1], rates[2], rates[0]/rates[2])
	}
	return gate, alone, raw
}

func (c *counter) throughGate(callers, calls int) float64 {
	tokens := prepare(calls, c.token)
	gate := c.newGate()
	defer gate.Close()
	return c.time(callers, calls, func(ctx context.Context, i int) error {
		_, err := gate.Admit(ctx, tokens[i], c.request(i))
		return err
	})
}

func (c *counter) byStore(callers, calls int) float64 {
	admissions := prepare(calls, c.admission)
	return c.time(callers, calls, func(ctx context.Context, i int) error {
		_, err := c.store.Admit(ctx, admissions[i])
		return err
	})
}

func (c *counter) asRows(callers, calls int) float64 {
	rows := prepare(calls, func(int) rawRows { return c.rawLike.anew(c.rawKeys) })
	return c.time(callers, calls, func(_ context.Context, i int) error { return c.raw.commit(rows[i]) })
}

// prepare makes what the calls of a run need, which is not timed.
func prepare[T any](n int, one func(int) T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = one(i)
	}
	return all
}

// admission is what the gate makes of a token.
func (c *counter) admission(i int) access.Admission {
	now := time.Now()
	r := c.request(i)
	id := randomText(22)
	return access.Admission{Session: rand.Text(), Door: r.Door, From: r.From, Node: "bench", At: now,
		Grant: access.Grant{App: "bench", Subject: "user-17", Resource: r.Resource, Actions: []access.Action{r.Action},
			TokenID: id, KeyID: c.key.ID},
		Spends: id, SpentTill: now.Add(time.Hour), Ticket: randomText(43), TicketEnd: now.Add(2 * time.Minute)}
}

// time lets callers make calls until the run is over, and returns the rate per second.
// The first error ends the run and the measurement.
func (c *counter) time(callers, calls int, call func(ctx context.Context, i int) error) float64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	runtime.GC() // every run begins with as little garbage
	var next, done atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	begin := time.Now()
	for range callers {
		all.Go(func() {
			for time.Since(begin) < runTime() && failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= calls {
					return
				}
				if err := call(ctx, i); err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	if err := failed.Load(); err != nil {
		c.t.Fatal(*err)
	}
	return float64(done.Load()) / took.Seconds()
}

// syncCost says what it takes the disk to confirm 4 KiB that were added to a file.
func syncCost(t *testing.T) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "sync"))
	must(t, err)
	defer f.Close()
	var took []float64
	for range 500 {
		_, err := f.Write(make([]byte, 4096))
		must(t, err)
		begin := time.Now()
		must(t, f.Sync())
		took = append(took, float64(time.Since(begin).Microseconds()))
	}
	slices.Sort(took)
	return fmt.Sprintf("An fsync of 4 KiB on the disk of the databases (%s) takes %s µs (p99 %s µs).", fileSystem(t),
		number(percentile(took, 50)), number(percentile(took, 99)))
}

// fileSystem names the kind of file system that temporary files are on.
func fileSystem(t *testing.T) string {
	var fs syscall.Statfs_t
	must(t, syscall.Statfs(os.TempDir(), &fs))
	switch fs.Type {
	case 0xef53:
		return "ext4"
	case 0x58465342:
		return "xfs"
	case 0x9123683e:
		return "btrfs"
	case 0x01021994:
		return "tmpfs: nothing is durable there, set TMPDIR"
	}
	return fmt.Sprintf("file system type %#x", fs.Type)
}

// running runs a part until the end of the test, and waits for it.
func running(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
