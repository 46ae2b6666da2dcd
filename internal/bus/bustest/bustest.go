// Package bustest starts a real nats-server for tests. Turnpike itself does not use it.
package bustest

import (
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Server is a nats-server process.
type Server struct {
	URL  string // where it listens, with user and password
	port string
	path string
	cmd  *exec.Cmd
}

// External starts a nats-server with a user and password on a free port of loopback,
// and ends it with the test. It fails the test when the program is missing.
func External(t testing.TB) *Server {
	t.Helper()
	s := &Server{path: find(t), port: freePort(t)}
	s.URL = "nats://turnpike:for-tests@127.0.0.1:" + s.port
	s.Start(t)
	t.Cleanup(func() { s.Stop(t) })
	return s
}

func find(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"nats-server", "/usr/sbin/nats-server", "/usr/local/bin/nats-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("nats-server is missing; on Debian: apt-get install nats-server")
	return ""
}

// freePort finds a port that was free a moment ago: the server has to come back on the
// same one after a restart.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// Start starts the server and waits until it accepts connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	var output strings.Builder
	s.cmd = exec.Command(s.path, "-a", "127.0.0.1", "-p", s.port, "--user", "turnpike", "--pass", "for-tests")
	s.cmd.Stderr = &output
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.Stop(t)
			t.Fatalf("nats-server does not answer: %v\n%s", err, output.String())
		}
	}
}

// Stop kills the server, as a crash would. It may be started again.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Kill()
	s.cmd.Wait()
	s.cmd = nil
}
