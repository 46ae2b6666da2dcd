//go:build e2e || bench

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patient is how long a test waits for something that should happen at once.
const patient = 30 * time.Second

// binary is the built program; `make test` builds it.
func binary(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs("../bin/turnpike")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("the program is not built: run make build first (%v)", err)
	}
	return path
}

// node is one running server process.
type node struct {
	t    testing.TB
	dir  string
	url  string
	cmd  *exec.Cmd
	log  *logBuffer
	gone chan struct{}
	code int
}

// logBuffer collects what a process prints.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// startNode runs `turnpike serve` on a free port and a new data directory, and waits
// until it is ready. Flags are added to the usual ones.
func startNode(t testing.TB, flags ...string) *node {
	t.Helper()
	return startNodeAt(t, freeAddr(t), t.TempDir(), flags...)
}

func startNodeAt(t testing.TB, addr, dir string, flags ...string) *node {
	t.Helper()
	args := append([]string{"serve", "--data", dir, "--http", addr, "--media-udp", "127.0.0.1:0", "--media-tcp", "",
		"--log-level", "debug"}, flags...)
	n := &node{t: t, dir: dir, url: "http://" + addr, log: &logBuffer{}, gone: make(chan struct{})}
	n.cmd = exec.Command(binary(t), args...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		n.cmd.Wait()
		n.code = n.cmd.ProcessState.ExitCode()
		close(n.gone)
	}()
	t.Cleanup(func() {
		n.kill(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("log of the server at %s:\n%s", n.url, tail(n.log.String(), 60))
		}
	})
	n.waitReady()
	return n
}

func (n *node) waitReady() {
	n.t.Helper()
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-n.gone:
			n.t.Fatalf("the server stopped at once:\n%s", n.log)
		default:
		}
		if r, err := http.Get(n.url + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
	}
	n.t.Fatalf("the server is not ready after %v:\n%s", patient, n.log)
}

// kill sends a signal to the server and waits until it has gone.
func (n *node) kill(s syscall.Signal) {
	n.cmd.Process.Signal(s)
	select {
	case <-n.gone:
	case <-time.After(patient):
		n.cmd.Process.Kill()
		n.t.Errorf("the server did not stop on %v", s)
	}
}

// cli runs a command on the node's data directory and returns its standard output.
func (n *node) cli(args ...string) string {
	n.t.Helper()
	out, err := n.tryCLI(args...)
	if err != nil {
		n.t.Fatalf("turnpike %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (n *node) tryCLI(args ...string) (string, error) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(n.t), append(args, "--data", n.dir)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), err
}

// house is an app with a key and a device, as a customer would have them.
type house struct {
	App       string
	AccessID  string `json:"access_id"`
	SecretKey string `json:"secret_key"`
	DeviceID  string `json:"device_id"`
	DeviceKey string `json:"device_secret_key"`
	License   string
}

// newHouse makes an app and a device through the command line.
func (n *node) newHouse(app, device string) house {
	n.t.Helper()
	var h house
	unmarshal(n.t, n.cli("app", "create", app, "--json"), &h)
	unmarshal(n.t, n.cli("device", "add", "--app", app, device, "--json"), &h)
	return h
}

func unmarshal(t testing.TB, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
}

// startDevice puts the house's device online with the demo clip and waits until the
// server knows it.
func (h house) startDevice(n *node) *exec.Cmd {
	n.t.Helper()
	cmd := exec.Command(binary(n.t), "device", "run", "--license", h.License, "--server", n.url,
		"--video", "../cmd/turnpike/demo/clip.h264", "--audio", "../cmd/turnpike/demo/clip.alaw")
	log := &logBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("log of the device:\n%s", tail(log.String(), 30))
		}
	})
	h.waitOnline(n)
	return cmd
}

func (h house) waitOnline(n *node) {
	n.t.Helper()
	eventually(n.t, "the device to come online", func() bool {
		var d struct {
			Online bool `json:"online"`
		}
		out, err := n.tryCLI("device", "show", h.DeviceID, "--json")
		return err == nil && json.Unmarshal([]byte(out), &d) == nil && d.Online
	})
}

// eventually waits until ok says so.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited %v for %s", patient, what)
}

func tail(s string, lines int) string {
	all := strings.Split(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// freeAddr is a loopback address that was free a moment ago.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
