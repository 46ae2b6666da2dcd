// Package server is the composition root: the only place that knows every part.
// Read New from top to bottom to see how the parts depend on each other.
package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/turnpike-rtc/turnpike/console"
	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/internal/bus"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/rtc"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/store"
)

// Version is set by the build.
var Version = "dev"

// Server is one node.
type Server struct {
	config    Config
	node      string // changes with every start: sessions and devices know who held them
	log       *slog.Logger
	metrics   *prometheus.Registry
	store     *store.Store
	ledger    *ledger // the store, with a count of what passes
	bus       *bus.Bus
	authority *authority.Authority
	gate      *session.Gate
	rtc       *rtc.Engine
	web       *door.Web
	doors     []door.Door
	ready     chan struct{}
	draining  atomic.Bool
}

// New builds every part and starts none; it opens the database and the bus, which
// Run closes. Logs go to standard error, as the configuration says.
func New(ctx context.Context, c Config) (*Server, error) {
	s := &Server{config: c, node: newNode(), ready: make(chan struct{})}
	s.log = c.logger().With("node", s.node)
	s.metrics = newMetrics(Version, s.node)
	if err := s.openKeepers(ctx); err != nil {
		return nil, err
	}
	if err := s.build(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openKeepers opens what has to be closed again.
func (s *Server) openKeepers(ctx context.Context) (err error) {
	if s.store, err = openStore(ctx, s.config, s.changed, s.log); err != nil {
		return err
	}
	c := s.config.Cluster
	s.bus, err = bus.Open(ctx, bus.Config{URL: s.config.Bus, Name: s.node, Listen: c.Listen, Routes: c.Routes,
		RouteSecret: c.Secret, Log: s.log})
	if err != nil {
		return errors.Join(err, s.store.Close())
	}
	return nil
}

func openStore(ctx context.Context, c Config, changed func(), log *slog.Logger) (*store.Store, error) {
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	key, err := store.LoadMasterKey(c.Data, os.Getenv("TURNPIKE_MASTER_KEY"))
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{DSN: c.Store, Dir: c.Data, MasterKey: key, Changed: changed, Log: log})
}

// build makes the gate, the media engine and the doors.
func (s *Server) build() (err error) {
	s.ledger = newLedger(s.store, s.metrics)
	s.authority = authority.New(s.store, time.Now, s.log)
	s.gate = session.NewGate(session.Config{Node: s.node, Now: time.Now, Log: s.log}, s.authority, s.ledger, s.authority)
	s.metrics.MustRegister(inside{s.gate})
	s.rtc = rtc.New(rtc.Config{UDP: s.config.Media.UDP, TCP: s.config.Media.TCP, Metrics: s.metrics, Log: s.log})
	if s.web, err = door.NewWeb(s.webConfig(), s.log); err != nil {
		return err
	}
	if err := s.openDoors(); err != nil {
		return err
	}
	s.mountHealth(s.web.Mux())
	console.New().Mount(s.web.Mux())
	return nil
}

func (s *Server) webConfig() door.Config {
	c := s.config
	w := door.Config{
		HTTP: c.HTTP, CertFile: c.TLS.Cert, KeyFile: c.TLS.Key, SelfSigned: c.Dev,
		Operator: SocketPath(c.Data), TrustedProxies: c.Proxies, Drain: lastCall, Metrics: s.metrics,
	}
	if c.servesTLS() {
		w.HTTPS = c.HTTPS
	}
	return w
}

// newNode returns an id for this run of the server.
func newNode() string {
	var b [6]byte
	rand.Read(b[:])
	return "node-" + hex.EncodeToString(b[:])
}

// Ready is closed when every address is bound and callers are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Addr is the bound address of "http", "https", "unix", "udp" or "tcp"; empty when
// it is off, or before Ready.
func (s *Server) Addr(name string) string {
	if name == "udp" || name == "tcp" {
		return s.rtc.Addr(name)
	}
	return s.web.Addr(name)
}

// Run serves until ctx ends or a part fails, then drains, for as long as the
// configuration allows, and closes what New opened. A second call is not allowed.
func (s *Server) Run(ctx context.Context) error {
	err := s.serve(ctx)
	if errors.Is(err, errStuck) {
		return err // what holds on still uses what would be closed
	}
	s.gate.Close()
	return errors.Join(err, s.close())
}

// When the doors have stopped, what is left are requests for pages and to the API.
const (
	lastCall = 2 * time.Second // to finish them
	closing  = 3 * time.Second // for everything else to stop
)

// errStuck is a stop that took longer than it may. The process had better end.
var errStuck = errors.New("cannot stop in time: some callers or parts hold on")

// serve runs the parts until ctx ends. The doors stop first, so that while they send
// their callers away everybody else is told that the server drains.
func (s *Server) serve(ctx context.Context) error {
	if err := errors.Join(s.rtc.Open(), s.web.Open()); err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w; stop the program that has the address, or set another one: http, https, media.udp, media.tcp", err)
		}
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	house, doors := newCrew(ctx, fail), newCrew(ctx, fail)
	house.start("authority", s.authority.Run)
	house.start("housekeeping", s.keepHouse)
	house.start("media", s.rtc.Serve)
	house.start("web", s.web.Serve)
	for i, d := range s.doors {
		doors.start(s.config.doors[i].name, d.Serve)
	}
	s.log.Info("serving", "version", Version, "http", s.Addr("http"), "https", s.Addr("https"))
	close(s.ready)

	<-ctx.Done()
	s.draining.Store(true)
	s.log.Info("draining", "for at most", s.config.Drain)
	stopped := doors.stop(s.config.Drain)
	if !house.stop(lastCall+closing) || !stopped {
		return errStuck
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (s *Server) close() error { return errors.Join(s.bus.Close(), s.store.Close()) }

const (
	heartbeat  = 5 * time.Second
	purgeEvery = 10 * time.Minute
)

// keepHouse tells the other nodes that this one lives, passes changes on to them and
// clears away what has expired.
func (s *Server) keepHouse(ctx context.Context) error {
	unhear, err := s.bus.Subscribe(changedSubject, func([]byte) { s.authority.Wake() })
	if err != nil {
		return err
	}
	defer unhear()
	beat, purge := time.NewTicker(heartbeat), time.NewTicker(purgeEvery)
	defer beat.Stop()
	defer purge.Stop()
	for {
		if err := s.store.Heartbeat(ctx, s.node, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("cannot tell the other nodes that this one lives", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-beat.C:
		case <-purge.C:
			if err := s.store.Purge(ctx, time.Now()); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot clear away what has expired", "error", err)
			}
		}
	}
}

// changedSubject is published by the node that wrote to the change log.
const changedSubject = "changed"

// changed makes every node read the change log now instead of a moment later.
func (s *Server) changed() {
	s.authority.Wake()
	if err := s.bus.Publish(changedSubject, nil); err != nil {
		s.log.Debug("cannot wake the other nodes; they will look by themselves", "error", err)
	}
}

// Open builds the management API on a data directory whose server is not running,
// for local commands. Requests through it are the operator's.
func Open(ctx context.Context, c Config) (http.Handler, func() error, error) {
	s := &Server{config: c, node: newNode(), log: c.logger(), metrics: newMetrics(Version, "")}
	var err error
	if s.store, err = openStore(ctx, c, nil, s.log); err != nil {
		return nil, nil, err
	}
	s.ledger = newLedger(s.store, s.metrics)
	s.authority = authority.New(s.store, time.Now, s.log)
	mux := http.NewServeMux()
	if err := s.mountAPI(mux); err != nil {
		return nil, nil, errors.Join(err, s.store.Close())
	}
	return door.AsOperator(mux), s.store.Close, nil
}
