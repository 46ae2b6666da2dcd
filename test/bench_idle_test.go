//go:build bench

package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

// idleAim is the most memory that an idle device may take of the server, in KiB.
const idleAim = 20.0

const (
	idleKeep     = time.Minute // how long the last crowd is kept before it is looked at again
	sparedFiles  = 100         // open files of a process that are not devices
	startingUp   = 64          // devices that come online at the same time
	perSource    = 5000        // devices on one loopback address, well below its free ports
	idlePatience = 10 * time.Minute
)

// TestBenchIdle counts what a server process needs for devices that are online and do
// nothing. Server and devices are two processes; the devices are those of package
// device, each with its own TCP connection, WebSocket and proof, and all keep pinging.
//
// Counted is the resident memory of the server, less that of the same process before
// the first device. The heap doubles between two runs of the collector: the figure that
// counts is taken after it has run twice, when the heap has been as full as it gets.
func TestBenchIdle(t *testing.T) {
	crowds := []int{1000, 2000, 5000, 10_000, 15_000, 20_000}
	if quick() {
		crowds = crowds[:3]
	}
	r := newReport(t, "idle", "devices online", "server, RSS", "RSS per device", "private dirty per device",
		"RSS per device as they came", "aim", "")
	most := crowds[len(crowds)-1]
	if fit := fileLimit(t, most+sparedFiles) - sparedFiles; fit < most {
		note := fmt.Sprintf("A process may open only %s files here, and the limit cannot be raised: the last step is %s devices instead of %s.",
			number(float64(fit+sparedFiles)), number(float64(fit)), number(float64(most)))
		progress("%s", note)
		r.notes, most = append(r.notes, note), fit
		crowds[len(crowds)-1] = most
	}
	dir := t.TempDir()
	licenses := register(t, dir, most)
	n := startNodeAt(t, freeAddr(t), dir, "--log-level", "info")
	n.collect()
	empty := n.footprint()
	progress("idle: the server alone has %.1f MiB", empty.rss/1024)

	all := newCrowd(t, n, licenses)
	rss, dirty := curve{label: "RSS", dots: true}, curve{label: "private dirty", dots: true}
	var perDevice float64
	for _, size := range crowds {
		all.grow(size)
		before := n.settle()
		n.collect()
		now := n.settle()
		all.mustBeOnline(size)
		share := func(whole, without float64) float64 { return (whole - without) / float64(size) }
		perDevice = share(now.rss, empty.rss)
		private := share(now.dirty, empty.dirty)
		progress("idle: %d devices, %.1f MiB, %.1f KiB per device (%.1f KiB as they came)",
			size, now.rss/1024, perDevice, share(before.rss, empty.rss))
		rss.points = append(rss.points, point{float64(size), perDevice, perDevice, perDevice})
		dirty.points = append(dirty.points, point{float64(size), private, private, private})
		cells := []string{number(float64(size)), fmt.Sprintf("%.0f MiB", now.rss/1024), fmt.Sprintf("%.1f KiB", perDevice),
			fmt.Sprintf("%.1f KiB", private), fmt.Sprintf("%.1f KiB", share(before.rss, empty.rss)), "", ""}
		if size == most {
			cells[2], cells[5], cells[6] = "**"+cells[2]+"**", fmt.Sprintf("≤ %g KiB", idleAim), verdict(perDevice <= idleAim)
		}
		r.row(cells...)
	}
	if !quick() {
		all.keep(idleKeep)
		later := n.footprint()
		r.notes = append(r.notes, fmt.Sprintf("After another %v of keep-alive all %s devices are online, and the server has %.0f MiB.",
			idleKeep, number(float64(most)), later.rss/1024))
	}
	r.notes = append(r.notes, fmt.Sprintf("Without devices the server has %.0f MiB; divided by %s devices, the whole process is %.1f KiB each.",
		empty.rss/1024, number(float64(most)), perDevice+empty.rss/float64(most)))
	r.charts = []namedChart{{"idle", chart{
		title: "Server memory per idle device", x: "devices online", y: "KiB per device",
		curves: []curve{rss, dirty}, limits: []limit{{label: "aim: at most 20 KiB", at: idleAim}},
	}}}
	r.write(t)
}

// fileLimit raises the number of files a process may open to want, for this process
// and those it starts, and returns what it is then.
func fileLimit(t *testing.T, want int) int {
	t.Helper()
	var l syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l))
	if l.Max >= uint64(want) {
		return int(l.Max) // the Go runtime has raised the soft limit to it
	}
	raised := syscall.Rlimit{Cur: uint64(want), Max: uint64(want)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return want
	}
	return int(l.Max)
}

// register puts devices into the database of a server that does not run yet.
func register(t *testing.T, dir string, count int) []string {
	t.Helper()
	master, err := store.LoadMasterKey(dir, "")
	must(t, err)
	s, err := store.Open(t.Context(), store.Config{Dir: dir, MasterKey: master})
	must(t, err)
	defer s.Close()
	now := time.Now()
	must(t, s.CreateApp(t.Context(), token.App{Name: "bench", Created: now}))
	licenses := make([]string, count)
	said := now
	for i := range licenses {
		d := token.Device{ID: fmt.Sprintf("idle%05d", i), App: "bench", Secret: token.NewSecret(), Created: now}
		must(t, s.AddDevice(t.Context(), d))
		licenses[i] = token.License{DeviceID: d.ID, Secret: d.Secret}.String()
		if time.Since(said) > 3*time.Second {
			said = time.Now()
			progress("idle: registered %d of %d devices", i+1, count)
		}
	}
	return licenses
}

// crowd is many devices of one process.
type crowd struct {
	t        *testing.T
	node     *node
	licenses []string
	ctx      context.Context
	running  sync.WaitGroup
	starting chan struct{} // one place for each device that is coming online
	online   atomic.Int64
	lost     atomic.Int64 // how often one was online and then not
	started  int
	clients  []*http.Client // by source address
}

func newCrowd(t *testing.T, n *node, licenses []string) *crowd {
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{t: t, node: n, licenses: licenses, ctx: ctx, starting: make(chan struct{}, startingUp)}
	for i := range len(licenses)/perSource + 1 {
		dial := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i))}}
		c.clients = append(c.clients, &http.Client{Transport: &http.Transport{DialContext: dial.DialContext}})
	}
	t.Cleanup(func() {
		// The server goes first: nobody wants 20,000 orderly farewells.
		n.kill(syscall.SIGKILL)
		cancel()
		c.running.Wait()
	})
	return c
}

// grow brings devices online until there are size.
func (c *crowd) grow(size int) {
	c.t.Helper()
	deadline := time.Now().Add(idlePatience)
	said := time.Now()
	for c.online.Load() < int64(size) {
		if time.Since(said) > 3*time.Second {
			said = time.Now()
			progress("idle: %d of %d devices are online", c.online.Load(), size)
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%d of %d devices are online after %v", c.online.Load(), size, idlePatience)
		}
		if c.started == size {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		select {
		case c.starting <- struct{}{}:
			c.start(c.started)
			c.started++
		case <-time.After(time.Second):
		}
	}
}

// start runs one device. It is online when the server has taken its proof.
func (c *crowd) start(i int) {
	here := sync.OnceFunc(func() { <-c.starting })
	d, err := device.New(device.Config{
		Server: c.node.url, License: c.licenses[i], ClientID: fmt.Sprintf("bench-%d", i),
		Streams:   []device.Stream{{ID: 0, Codec: device.H264}, {ID: 1, Codec: device.ALaw}},
		HTTP:      c.clients[i/perSource],
		OnOnline:  func() { c.online.Add(1); here() },
		OnOffline: func(error) { c.online.Add(-1); c.lost.Add(1) },
	})
	must(c.t, err)
	c.running.Go(func() {
		defer here()
		if err := d.Run(c.ctx); err != nil && !errors.Is(err, context.Canceled) {
			c.t.Errorf("device %d: %v", i, err)
		}
	})
}

// keep leaves the devices to their keep-alive for some time.
func (c *crowd) keep(duration time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(5 * time.Second) {
		progress("idle: %d devices stay online", c.online.Load())
	}
	c.mustBeOnline(c.started)
}

// mustBeOnline compares what the devices and what the server say.
func (c *crowd) mustBeOnline(size int) {
	c.t.Helper()
	if n := int(c.node.metric("turnpike_devices_online")); n != size || c.lost.Load() > 0 {
		c.t.Fatalf("the server has %d devices online, want %d; connections lost: %d", n, size, c.lost.Load())
	}
}

// footprint is the memory of a process, in KiB.
type footprint struct{ rss, dirty float64 }

func (n *node) footprint() footprint {
	n.t.Helper()
	file := fmt.Sprintf("/proc/%d/smaps_rollup", n.cmd.Process.Pid)
	var f footprint
	for name, into := range map[string]*float64{"Rss": &f.rss, "Private_Dirty": &f.dirty} {
		if _, err := fmt.Sscanf(procLine(file, name), "%f kB", into); err != nil {
			n.t.Fatalf("cannot read %s of %s: %v", name, file, err)
		}
	}
	return f
}

// settle waits until the server's memory has not moved by more than a hundredth for
// three seconds, half a minute at most.
func (n *node) settle() footprint {
	n.t.Helper()
	last, since := n.footprint(), time.Now()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && time.Since(since) < 3*time.Second; {
		time.Sleep(250 * time.Millisecond)
		now := n.footprint()
		if now.rss > last.rss*1.01 || now.rss < last.rss*0.99 {
			last, since = now, time.Now()
		}
	}
	return n.footprint()
}

// collect waits until the server's collector has run twice. It would by itself within
// four minutes; asking for metrics makes enough garbage for it to come sooner.
func (n *node) collect() {
	n.t.Helper()
	const runs = "go_gc_duration_seconds_count"
	first := n.metric(runs)
	for end := time.Now().Add(4 * time.Minute); n.metric(runs) < first+2; {
		if time.Now().After(end) {
			n.t.Fatal("the server's collector has not run")
		}
	}
}

// metric asks the server for one of its metrics.
func (n *node) metric(name string) (value float64) {
	n.t.Helper()
	client := http.Client{Timeout: patient}
	resp, err := client.Get(n.url + "/metrics")
	must(n.t, err)
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			_, err := fmt.Sscan(text, &value)
			must(n.t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			must(n.t, err)
			return value
		}
	}
	n.t.Fatalf("the server has no metric %s", name)
	return 0
}
