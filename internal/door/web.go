package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config is the shared listener's. The zero value serves nothing: at least one of
// HTTP, HTTPS and Operator must be set.
type Config struct {
	HTTP           string        // address of plain HTTP, ":5080"; empty: none
	HTTPS          string        // address of HTTPS; empty: none
	CertFile       string        // PEM files of the certificate and its key,
	KeyFile        string        //   read again when they change
	SelfSigned     bool          // without CertFile: a certificate of our own, for development
	Operator       string        // path of a Unix socket, mode 0600, whose callers are operators; empty: none
	TrustedProxies []string      // addresses or prefixes whose X-Forwarded-For is believed
	Drain          time.Duration // how long requests may finish once the context has ended; 0: 10 s

	Metrics prometheus.Registerer // nil: no metrics
}

// timeouts of every listener: a silent or slow peer holds a connection and a
// goroutine no longer than these, unless its door extends them.
type timeouts struct{ header, read, write, idle time.Duration }

func usualTimeouts() timeouts {
	return timeouts{
		header: 10 * time.Second,
		read:   30 * time.Second, // the whole request; longer than a device may take to answer
		write:  time.Minute,
		idle:   2 * time.Minute,
	}
}

const (
	maxHeader    = 12 << 10 // net/http adds 4 KiB
	defaultDrain = 10 * time.Second
)

// Web is the HTTP listener that web doors share: plain, TLS and the operator's
// Unix socket, one set of addresses on all of them.
type Web struct {
	cfg     Config
	log     *slog.Logger
	mux     *http.ServeMux
	proxies []netip.Prefix
	metrics *webMetrics
	limits  timeouts
	open    []*listening
}

// listening is one open socket and the server behind it.
type listening struct {
	net.Listener
	scheme string // "http", "https", "unix"
	server *http.Server
}

// NewWeb checks the configuration. Nothing listens before Open or Serve.
func NewWeb(cfg Config, log *slog.Logger) (*Web, error) {
	if cfg.Drain <= 0 {
		cfg.Drain = defaultDrain
	}
	if cfg.HTTPS != "" && !cfg.SelfSigned && (cfg.CertFile == "" || cfg.KeyFile == "") {
		return nil, errors.New("cannot serve HTTPS: it needs a certificate file and a key file, or a self-signed certificate")
	}
	w := &Web{cfg: cfg, log: log, mux: http.NewServeMux(), metrics: newWebMetrics(cfg.Metrics), limits: usualTimeouts()}
	for _, text := range cfg.TrustedProxies {
		p, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("cannot trust proxy %q: want an address or a prefix such as 10.0.0.0/8", text)
		}
		w.proxies = append(w.proxies, p)
	}
	return w, nil
}

// Mount puts doors on the listener. It is called before Serve.
func (w *Web) Mount(doors ...WebDoor) {
	for _, d := range doors {
		d.Mount(w.mux)
	}
}

// Mux is where addresses that belong to no door are put, before Serve.
func (w *Web) Mux() *http.ServeMux { return w.mux }

// Open binds the addresses, so that one in use is reported before anything else
// starts. Serve does it when it was not done.
func (w *Web) Open() (err error) {
	if w.open != nil {
		return nil
	}
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	if w.cfg.HTTP != "" {
		if err := w.listen("http", func() (net.Listener, error) { return net.Listen("tcp", w.cfg.HTTP) }); err != nil {
			return err
		}
	}
	if w.cfg.HTTPS != "" {
		if err := w.listen("https", func() (net.Listener, error) { return net.Listen("tcp", w.cfg.HTTPS) }); err != nil {
			return err
		}
	}
	if w.cfg.Operator != "" {
		if err := w.listen("unix", func() (net.Listener, error) { return listenOperator(w.cfg.Operator) }); err != nil {
			return err
		}
	}
	if w.open == nil {
		return errors.New("cannot listen: neither HTTP nor HTTPS nor an operator socket is configured")
	}
	return nil
}

// Close lets go of what Open bound, for a caller that will not call Serve.
func (w *Web) Close() {
	for _, l := range w.open {
		l.Listener.Close()
	}
	w.open = nil
}

func (w *Web) listen(scheme string, bind func() (net.Listener, error)) error {
	l, err := bind()
	if err != nil {
		return fmt.Errorf("cannot listen for %s: %w", scheme, err)
	}
	s := &http.Server{
		Handler:           w.wrap(w.mux),
		ReadHeaderTimeout: w.limits.header,
		ReadTimeout:       w.limits.read,
		WriteTimeout:      w.limits.write,
		IdleTimeout:       w.limits.idle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	switch scheme {
	case "https":
		if s.TLSConfig, err = tlsConfig(w.cfg); err != nil {
			l.Close()
			return err
		}
	case "unix":
		s.BaseContext = func(net.Listener) context.Context {
			return context.WithValue(context.Background(), operatorKey{}, true)
		}
	}
	w.open = append(w.open, &listening{l, scheme, s})
	return nil
}

// Addr is the bound address of a scheme, "http", "https" or "unix"; empty when
// there is none, or before Open.
func (w *Web) Addr(scheme string) string {
	for _, l := range w.open {
		if l.scheme == scheme {
			return l.Addr().String()
		}
	}
	return ""
}

// Serve answers requests until ctx ends, then lets those under way finish for at
// most Config.Drain. WebSockets are their doors' to close.
func (w *Web) Serve(ctx context.Context) error {
	if err := w.Open(); err != nil {
		return err
	}
	failed := make(chan error, len(w.open))
	var serving sync.WaitGroup
	for _, l := range w.open {
		serving.Go(func() { failed <- l.serve() })
		w.log.Info("listening", "scheme", l.scheme, "addr", l.Addr().String())
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	w.shutdown()
	serving.Wait()
	return err
}

func (l *listening) serve() error {
	var err error
	if l.scheme == "https" {
		err = l.server.ServeTLS(l.Listener, "", "")
	} else {
		err = l.server.Serve(l.Listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve %s: %w", l.scheme, err)
}

func (w *Web) shutdown() {
	patience, cancel := context.WithTimeout(context.Background(), w.cfg.Drain)
	defer cancel()
	var closing sync.WaitGroup
	for _, l := range w.open {
		closing.Go(func() {
			if err := l.server.Shutdown(patience); err != nil {
				w.log.Warn("requests cut off at shutdown", "scheme", l.scheme)
				l.server.Close()
			}
		})
	}
	closing.Wait()
}
