package door

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const patient = 5 * time.Second

// serve runs a listener with some addresses until the test ends, and checks that
// it stops.
func serve(t *testing.T, cfg Config, prepare func(*Web)) *Web {
	t.Helper()
	w, err := NewWeb(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.Mux().HandleFunc("GET /from", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, ClientIP(r).String())
	})
	w.Mux().HandleFunc("GET /operator", func(rw http.ResponseWriter, r *http.Request) {
		json.NewEncoder(rw).Encode(Operator(r.Context()))
	})
	w.Mux().HandleFunc("POST /echo", func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, 1024))
		if err != nil {
			Problem(rw, http.StatusRequestEntityTooLarge, "too_large", "Send less.")
			return
		}
		rw.Write(b)
	})
	w.Mux().HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	w.Mux().Handle("/open", CORS("POST", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {})))
	if prepare != nil {
		prepare(w)
	}
	if err := w.Open(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patient):
			t.Error("Serve did not return")
		}
	})
	return w
}

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	return do(t, http.DefaultClient, "GET", url, nil, header...)
}

func do(t *testing.T, c *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func TestAnswersErrorsAsProblemDetails(t *testing.T) {
	w := serve(t, Config{HTTP: "127.0.0.1:0"}, nil)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/nowhere", "", 404, "not_found"},
		{"POST", "/from", "", 405, "method_not_allowed"},
		{"GET", "/panic", "", 500, "internal"},
		{"POST", "/echo", strings.Repeat("x", 1025), 413, "too_large"},
		{"DELETE", "/echo", "", 405, "method_not_allowed"},
	} {
		res, body := do(t, http.DefaultClient, c.method, "http://"+w.Addr("http")+c.path, strings.NewReader(c.body))
		var p struct {
			Type, Title, Detail, Code string
			Status                    int
		}
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Errorf("%s %s: %q is no problem: %v", c.method, c.path, body, err)
		}
		if res.StatusCode != c.status || p.Status != c.status || p.Code != c.code || p.Type != "about:blank" || p.Title == "" || p.Detail == "" {
			t.Errorf("%s %s: %d %+v", c.method, c.path, res.StatusCode, p)
		}
		if got := res.Header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s %s: Content-Type %q", c.method, c.path, got)
		}
		if c.status == 405 && res.Header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
		if res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: no security headers", c.method, c.path)
		}
	}
}

func TestBelievesOnlyTrustedProxies(t *testing.T) {
	for _, c := range []struct {
		name    string
		proxies []string
		said    []string
		want    string
	}{
		{"nobody trusted", nil, []string{"203.0.113.9"}, "127.0.0.1"},
		{"trusted peer", []string{"127.0.0.1"}, []string{"203.0.113.9"}, "203.0.113.9"},
		{"silent proxy", []string{"127.0.0.0/8"}, nil, "127.0.0.1"},
		{"forged on the left", []string{"127.0.0.1"}, []string{"198.51.100.1, 203.0.113.9"}, "203.0.113.9"},
		{"chain of proxies", []string{"127.0.0.1", "10.0.0.0/8"}, []string{"203.0.113.9", "10.1.2.3"}, "203.0.113.9"},
		{"nonsense is nobody, and no proxy", []string{"127.0.0.1"}, []string{"unknown"}, "0.0.0.0"},
		{"with a port", []string{"127.0.0.1"}, []string{"203.0.113.9:4711"}, "203.0.113.9"},
		{"mapped", []string{"127.0.0.1"}, []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := serve(t, Config{HTTP: "127.0.0.1:0", TrustedProxies: c.proxies}, nil)
			var header []string
			for _, s := range c.said {
				header = append(header, "X-Forwarded-For", s)
			}
			if _, got := get(t, "http://"+w.Addr("http")+"/from", header...); got != c.want {
				t.Errorf("client is %s, want %s", got, c.want)
			}
		})
	}
}

func TestOnlyTheUnixSocketMakesOperators(t *testing.T) {
	path := filepath.Join(t.TempDir(), "op.sock")
	w := serve(t, Config{HTTP: "127.0.0.1:0", Operator: path}, nil)
	if stat, err := os.Stat(path); err != nil || stat.Mode().Perm() != 0o600 {
		t.Fatalf("socket file: %v, %v", stat.Mode(), err)
	}
	if _, body := get(t, "http://"+w.Addr("http")+"/operator"); strings.TrimSpace(body) != "false" {
		t.Errorf("over TCP: %s", body)
	}
	c := unixClient(path)
	defer c.CloseIdleConnections()
	if _, body := do(t, c, "GET", "http://turnpike/operator", nil); strings.TrimSpace(body) != "true" {
		t.Errorf("over the socket: %s", body)
	}
	second, err := NewWeb(Config{Operator: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Open(); err == nil {
		t.Error("a second server took the socket of a living one")
	}
}

func TestReplacesTheSocketOfAKilledServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "op.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	serve(t, Config{Operator: path}, nil)
	c := unixClient(path)
	defer c.CloseIdleConnections()
	if _, body := do(t, c, "GET", "http://turnpike/operator", nil); strings.TrimSpace(body) != "true" {
		t.Errorf("over the socket: %s", body)
	}
}

func unixClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestServesHTTPSWithItsOwnCertificate(t *testing.T) {
	w := serve(t, Config{HTTPS: "127.0.0.1:0", SelfSigned: true}, nil)
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	res, body := do(t, &http.Client{Transport: tr}, "GET", "https://"+w.Addr("https")+"/from", nil)
	if body != "127.0.0.1" || res.ProtoMajor != 2 {
		t.Errorf("%s %q", res.Proto, body)
	}
}

func TestDropsSlowAndSilentSockets(t *testing.T) {
	w := serve(t, Config{HTTP: "127.0.0.1:0"}, func(w *Web) {
		w.limits = timeouts{header: 50 * time.Millisecond, read: 100 * time.Millisecond, write: time.Second, idle: 100 * time.Millisecond}
	})
	for name, sent := range map[string]string{
		"silent":          "",
		"half a header":   "GET /from HTTP/1.1\r\nHost: x\r\nX-",
		"half a body":     "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
		"idle after one":  "GET /from HTTP/1.1\r\nHost: x\r\n\r\n",
		"oversize header": "GET /from HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", w.Addr("http"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, sent) // the server may hang up meanwhile
			c.SetReadDeadline(time.Now().Add(patient))
			if _, err := io.Copy(io.Discard, bufio.NewReader(c)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the server still holds the connection")
			}
		})
	}
}

func TestOpensMediaAddressesToOtherOrigins(t *testing.T) {
	w := serve(t, Config{HTTP: "127.0.0.1:0"}, nil)
	url := "http://" + w.Addr("http") + "/open"
	res, _ := do(t, http.DefaultClient, "OPTIONS", url, nil, "Origin", "https://app.example", "Access-Control-Request-Method", "POST")
	if res.StatusCode != http.StatusNoContent || res.Header.Get("Access-Control-Allow-Origin") != "*" ||
		!strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Authorization") {
		t.Errorf("preflight: %d %v", res.StatusCode, res.Header)
	}
	res, _ = do(t, http.DefaultClient, "POST", url, nil, "Origin", "https://app.example")
	for _, name := range []string{"Location", "Link", "ETag", "Turnpike-Resume-Ticket", "Turnpike-Resume-Expires"} {
		if !strings.Contains(res.Header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s is not exposed", name)
		}
	}
}

func TestCountsAnswers(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := serve(t, Config{HTTP: "127.0.0.1:0", Metrics: reg}, nil)
	get(t, "http://"+w.Addr("http")+"/nowhere")
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "turnpike_http_requests_total" {
		t.Fatalf("metrics: %v, %v", families, err)
	}
	m := families[0].GetMetric()[0]
	if m.GetCounter().GetValue() != 1 || m.GetLabel()[0].GetValue() != "404" {
		t.Errorf("counted %v", m)
	}
}

func TestRefusesBadConfiguration(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]Config{
		"HTTPS without certificate": {HTTPS: ":0"},
		"proxy with a port":         {HTTP: ":0", TrustedProxies: []string{"10.0.0.1:80"}},
		"missing certificate file":  {HTTPS: "127.0.0.1:0", CertFile: "/nonexistent", KeyFile: "/nonexistent"},
		"nothing to listen on":      {},
		"no such address":           {HTTP: "192.0.2.1:1"},
	} {
		w, err := NewWeb(cfg, log)
		if err == nil {
			err = w.Open()
		}
		if err == nil {
			t.Errorf("%s was accepted", name)
		} else if !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLimiterQuietensGuessersAndForgets(t *testing.T) {
	now := time.Unix(1700000000, 0)
	l := NewLimiter(func() time.Time { return now })
	guesser, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1")
	for range refusalsAllowed {
		if _, blocked := l.Blocked(guesser); blocked {
			t.Fatal("blocked too early")
		}
		l.Refused(guesser)
	}
	wait, blocked := l.Blocked(netip.MustParseAddr("2001:db8::2"))
	if !blocked || wait <= refusalWindow || wait > 2*refusalWindow {
		t.Errorf("same subscriber: blocked %v for %v", blocked, wait)
	}
	if _, blocked := l.Blocked(other); blocked {
		t.Error("a neighbour was blocked")
	}
	now = now.Add(wait)
	if _, blocked := l.Blocked(guesser); blocked {
		t.Error("not forgiven after the time that was named")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := NewLimiter(func() time.Time { return time.Unix(1700000000, 0) })
	var b [4]byte
	for i := range 3 * maxSources {
		b[0], b[1], b[2], b[3] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		l.Refused(netip.AddrFrom4(b))
	}
	if n := len(l.cur) + len(l.old); n > 2*maxSources {
		t.Errorf("%d sources remembered", n)
	}
}
