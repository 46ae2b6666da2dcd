package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

// link is a way to the management API: of the server that runs on the data
// directory, or of the directory itself.
type link struct {
	client *http.Client
	close  func() error
}

// connect finds the server of the data directory by its Unix socket. When none
// runs and the user named the directory, it opens the store in this process.
func (sh *shell) connect(ctx context.Context) (*link, error) {
	config, err := sh.quiet(map[string]string{})
	if err != nil {
		return nil, err
	}
	l, err := dial(ctx, server.SocketPath(config.Data))
	if !errors.Is(err, errUnreachable) {
		return l, err
	}
	if !sh.choseData() {
		return nil, fmt.Errorf("cannot reach the server of data directory %q: %w; start one with turnpike serve, or name the directory with --data", config.Data, errUnreachable)
	}
	api, closeStore, err := server.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	return &link{&http.Client{Transport: inProcess{api}}, closeStore}, nil
}

// dial connects to a server's socket. No socket, or one that nobody listens on,
// is errUnreachable.
func dial(ctx context.Context, path string) (*link, error) {
	open := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	c, err := open(ctx, "", "")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errUnreachable
	}
	if err != nil {
		return nil, fmt.Errorf("cannot reach the server: %w", err)
	}
	if err := c.Close(); err != nil {
		return nil, fmt.Errorf("cannot reach the server: %w", err)
	}
	transport := &http.Transport{DialContext: open}
	return &link{&http.Client{Transport: transport, Timeout: time.Minute}, func() error {
		transport.CloseIdleConnections()
		return nil
	}}, nil
}

// with runs f on a link and closes it afterwards.
func (sh *shell) with(ctx context.Context, f func(*link) error) (err error) {
	l, err := sh.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	return f(l)
}

// call sends in (nil: no body) to path, which follows /api/v1, and decodes the
// answer into out (nil: not wanted). What the API refuses is a *problem.
func (l *link) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://turnpike/api/v1"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := l.client.Do(r)
	if err != nil {
		return errors.Unwrap(err) // without the made-up address
	}
	defer answer.Body.Close()
	if answer.StatusCode >= http.StatusBadRequest {
		return refusal(answer)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(out)
}

func refusal(answer *http.Response) error {
	p := &problem{}
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(p); err != nil || p.Code == "" {
		return &problem{Status: answer.StatusCode, Code: "unexpected", Detail: "The server answered " + answer.Status + "."}
	}
	p.Status = answer.StatusCode
	return p
}

// address joins path segments of outside origin, and a query.
func address(query url.Values, segments ...string) string {
	path := ""
	for _, s := range segments {
		path += "/" + url.PathEscape(s)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// inProcess lets an http.Client talk to a handler without a connection.
type inProcess struct{ handler http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &written{header: http.Header{}, status: http.StatusOK}
	t.handler.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.status, Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), Request: r,
	}, nil
}

// written is an answer in memory.
type written struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *written) Header() http.Header         { return w.header }
func (w *written) WriteHeader(status int)      { w.status = status }
func (w *written) Write(b []byte) (int, error) { return w.body.Write(b) }
