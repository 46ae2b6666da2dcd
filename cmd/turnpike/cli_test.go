package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

// patience bounds every wait.
const patience = 20 * time.Second

// cli runs command lines on one data directory.
type cli struct {
	t   *testing.T
	dir string
	env []string
}

func newCLI(t *testing.T) *cli {
	return &cli{t, t.TempDir(), []string{"TURNPIKE_LOG_LEVEL=error"}}
}

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

// run carries out a command line on the data directory.
func (c *cli) run(args ...string) result {
	return c.typed("", append([]string{"--data", c.dir}, args...)...)
}

// typed is run with standard input, and without a data directory.
func (c *cli) typed(in string, args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, err bytes.Buffer
	code := run(ctx, args, c.env, strings.NewReader(in), &out, &err)
	return result{code, out.String(), err.String()}
}

// must runs a command line that has to succeed, and returns what it printed.
func (c *cli) must(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != exitDone || r.err != "" {
		c.t.Fatalf("turnpike %s: exit code %d: %s%s", strings.Join(args, " "), r.code, r.out, r.err)
	}
	return r.out
}

// read runs a command line and decodes the JSON it prints.
func (c *cli) read(v any, args ...string) {
	c.t.Helper()
	if out := c.must(append(args, "--json")...); json.Unmarshal([]byte(out), v) != nil {
		c.t.Fatalf("turnpike %s --json: %s", strings.Join(args, " "), out)
	}
}

// house is what customers have.
type house struct {
	newKey
	newDevice
}

func (c *cli) house() (h house) {
	c.t.Helper()
	c.read(&h.newKey, "app", "create", "garage")
	c.read(&h.newDevice, "device", "add", "--app", "garage", "CAM01")
	return h
}

// lines collects what a process that runs in the background prints.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// process is a command line that runs until it is stopped.
type process struct {
	t        *testing.T
	out, err lines
	stop     context.CancelFunc
	code     chan int
}

func (c *cli) start(args ...string) *process {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{t: c.t, stop: stop, code: make(chan int, 1)}
	args = append([]string{"--data", c.dir}, args...)
	go func() { p.code <- run(ctx, args, c.env, strings.NewReader(""), &p.out, &p.err) }()
	c.t.Cleanup(func() { stop() })
	return p
}

// end waits for the exit code.
func (p *process) end() int {
	p.t.Helper()
	select {
	case code := <-p.code:
		return code
	case <-time.After(patience):
		p.t.Fatalf("the command does not end: %s%s", &p.out, &p.err)
		return 0
	}
}

// serve starts a server on the data directory and waits until commands reach it.
func (c *cli) serve(args ...string) *process {
	c.t.Helper()
	p := c.start(append([]string{"serve", "--http", "127.0.0.1:0", "--media-udp", "127.0.0.1:0", "--media-tcp", ""}, args...)...)
	c.reachable(p)
	c.t.Cleanup(func() {
		p.stop()
		p.end()
	})
	return p
}

func (c *cli) reachable(p *process) {
	c.t.Helper()
	eventually(c.t, "a server that answers", func() bool {
		select {
		case code := <-p.code:
			c.t.Fatalf("the server ended with %d: %s", code, &p.err)
		default:
		}
		l, err := dial(c.t.Context(), server.SocketPath(c.dir))
		return err == nil && l.close() == nil
	})
}

// eventually waits until ok, which it asks again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freeAddress is one that nobody listens on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
