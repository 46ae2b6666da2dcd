package api_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/door/api"
	"github.com/turnpike-rtc/turnpike/internal/store"
)

// patience bounds every wait.
const patience = 10 * time.Second

// rig is the door on the real listener, with the real store and authority.
type rig struct {
	t     *testing.T
	store *store.Store
	url   string

	operator *http.Client // comes through the Unix socket
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(t.Context(), store.Config{Dir: dir, MasterKey: [32]byte{1}, Log: log})
	must(t, err)
	gate := authority.New(s, time.Now, log)
	d, err := api.New(api.Config{}, api.Deps{
		Records: s, Credentials: gate, Taken: store.ErrExists,
		Version: "1.2.3", Node: "node-1", Doors: []string{"api"}, Now: time.Now, Log: log,
	})
	must(t, err)
	socket := filepath.Join(dir, "s")
	web, err := door.NewWeb(door.Config{HTTP: "127.0.0.1:0", Operator: socket}, log)
	must(t, err)
	web.Mount(d)
	must(t, web.Open())
	r := &rig{t: t, store: s, url: "http://" + web.Addr("http"), operator: &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	r.serve(web.Serve, d.Serve, gate.Run)
	t.Cleanup(func() { must(t, s.Close()) })
	return r
}

// serve runs the parts until the test ends, and waits for them.
func (r *rig) serve(parts ...func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, len(parts))
	for _, part := range parts {
		go func() { done <- part(ctx) }()
	}
	r.t.Cleanup(func() {
		r.operator.CloseIdleConnections()
		stop()
		for range parts {
			select {
			case <-done:
			case <-time.After(patience):
				r.t.Error("a part did not stop")
				return
			}
		}
	})
}

// who makes a request: nobody, the operator, or a key.
type who struct {
	operator         bool
	accessID, secret string
}

var operator = who{operator: true}

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// code is that of a problem; empty for other answers.
func (a reply) code() string {
	var p struct{ Code string }
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json") || json.Unmarshal(a.body, &p) != nil {
		return ""
	}
	return p.Code
}

func (a reply) decode(t *testing.T, v any) {
	t.Helper()
	if a.status >= 300 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	must(t, json.Unmarshal(a.body, v))
}

// do sends a request below /api/v1; body is JSON text or "".
func (r *rig) do(w who, method, path, body string) reply {
	return r.send(w, method, path, body, "application/json")
}

func (r *rig) send(w who, method, path, body, contentType string) reply {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, r.url+"/api/v1"+path, strings.NewReader(body))
	must(r.t, err)
	if body != "" {
		q.Header.Set("Content-Type", contentType)
	}
	client := http.DefaultClient
	if w.operator {
		client = r.operator
	} else if w.accessID != "" {
		q.SetBasicAuth(w.accessID, w.secret)
	}
	a, err := client.Do(q)
	must(r.t, err)
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	must(r.t, err)
	return reply{a.StatusCode, a.Header, text}
}

// app makes an app and returns its first key.
func (r *rig) app(name string) who {
	r.t.Helper()
	var k struct {
		AccessID  string `json:"access_id"`
		SecretKey string `json:"secret_key"`
	}
	r.do(operator, "POST", "/apps", `{"app":"`+name+`"}`).decode(r.t, &k)
	return who{accessID: k.AccessID, secret: k.SecretKey}
}

// device makes a device and returns its secret.
func (r *rig) device(app, id string) string {
	r.t.Helper()
	var d struct {
		Secret string `json:"device_secret_key"`
	}
	r.do(operator, "POST", "/apps/"+app+"/devices", `{"device_id":"`+id+`"}`).decode(r.t, &d)
	return d.Secret
}

// eventually waits until ok, which it asks again and again.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
