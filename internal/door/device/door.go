// Package device is the door between devices and their clients.
//
// A device holds one WebSocket to the server (hello.go, conn.go): it proves that
// it has its secret, is online from then on, and gets the offers of clients. A
// client connects by WHEP (whep.go): it presents a connect token or a resume
// ticket and an SDP offer, and gets the device's answer; media then goes straight
// from device to client. GET /connect-token (token.go) hands connect tokens to
// signed-in users. protocol/device.md is the specification.
//
// Device and client may be on different nodes. The node that holds a device
// answers the bus subject "dev.<id>" (wire.go), and every client's node asks
// there, its own node included, so that there is one path and not two. Which of
// two nodes holds a device is decided by the epoch that the database gave to its
// start, not by the bus.
package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/token"
)

// Name is the door's name in sessions, events and metrics.
const Name = "device"

// authority proves devices, checks users and issues connect tokens.
type authority interface {
	ProveDevice(ctx context.Context, deviceID, clientID, serverNonce, deviceNonce, proof string) (token.Device, string, error)
	VerifyUser(ctx context.Context, jwt string) (token.Claims, error)
	IssueConnect(ctx context.Context, app, subject, deviceID string, ttl time.Duration) (string, token.Connect, error)
}

// presence keeps which node holds which device, and whose hardware it is.
type presence interface {
	BindDevice(ctx context.Context, id, clientID string) (string, error)
	Online(ctx context.Context, p access.Presence) (int64, error)
	Offline(ctx context.Context, deviceID string, epoch int64) error
	Presence(ctx context.Context, deviceID string) (access.Presence, error)
}

// records are what the door looks up and writes down.
type records interface {
	Device(ctx context.Context, id string) (token.Device, error)
	Rules(ctx context.Context, app string) ([]access.Rule, error)
	Session(ctx context.Context, id string) (access.Entry, error)
	Note(ctx context.Context, e access.Event) error
}

// changes tells what was revoked, disabled or ended, on any node.
type changes interface{ OnChange(func(token.Change)) }

// switchboard carries requests and news between nodes.
type switchboard interface {
	Publish(subject string, data []byte) error
	Request(ctx context.Context, subject string, data []byte) ([]byte, error)
	Subscribe(subject string, f func([]byte)) (stop func(), err error)
	Answer(subject string, f func(context.Context, []byte) []byte) (stop func(), err error)
}

// Deps is what the door works with.
type Deps struct {
	Authority    authority
	Presence     presence
	Records      records
	Changes      changes
	Bus          switchboard
	NobodyThere  error  // what Bus.Request returns when no node holds the device
	Node         string // id of this node
	Now          func() time.Time
	Log          *slog.Logger
	Metrics      prometheus.Registerer // nil: no metrics
	MediaUDPPort string                // port of this server's STUN; empty: none
}

// Config is the device section of the configuration.
type Config struct {
	Keepalive    time.Duration `yaml:"keepalive" usage:"how often devices ping; silent for three times as long, they are offline"`
	SessionLease time.Duration `yaml:"session_lease" usage:"devices without any server for so long end their sessions; 0: never"`
	MaxDevices   int           `yaml:"max" usage:"most devices on this node"`
	ICEServers   []string      `yaml:"ice_servers" usage:"STUN URLs told to devices and clients; empty: this server, under the name it was reached by"`
}

// DefaultConfig returns the settings of a server that nobody configured.
func DefaultConfig() Config {
	return Config{Keepalive: 25 * time.Second, SessionLease: 2 * time.Minute, MaxDevices: 100_000}
}

func (c Config) check() error {
	switch {
	case c.Keepalive < time.Second || c.Keepalive > time.Hour:
		return errors.New("cannot use device.keepalive: want 1s to 1h")
	case c.SessionLease < 0 || c.SessionLease > 7*24*time.Hour:
		return errors.New("cannot use device.session_lease: want 0 to 168h")
	case c.MaxDevices < 1:
		return errors.New("cannot use device.max: want 1 or more")
	case len(c.ICEServers) > 8:
		return errors.New("cannot use device.ice_servers: want at most 8")
	}
	for _, s := range c.ICEServers {
		if u, err := url.Parse(s); err != nil || u.Scheme != "stun" && u.Scheme != "stuns" || u.Opaque == "" || strings.ContainsAny(s, "<>\" ") {
			return fmt.Errorf("cannot use device.ice_servers: %q is no stun:host:port", s)
		}
	}
	return nil
}

// Door serves devices and their clients.
type Door struct {
	Config
	deps     Deps
	gate     *session.Gate
	log      *slog.Logger
	refusals *door.Limiter
	counts   *counters
	working  sync.WaitGroup // every goroutine and every request in hand
	calls    sync.WaitGroup // the clients among them, who are served before devices are sent away
	opening  chan struct{}  // one place for each WebSocket between accept and welcome
	patience patience

	mu          sync.Mutex // guards the following
	draining    bool
	starting    map[*door.Socket]bool // accepted, not online yet
	online      map[string]*conn      // by device id
	carried     map[string]*visit     // by session id: sessions of the devices on this node
	missed      map[string]time.Time
	openingFrom map[netip.Addr]int // WebSockets between accept and welcome, by address
}

// patience is how long a device may take.
type patience struct {
	hello  time.Duration // from challenge to hello; and this server from there to welcome
	answer time.Duration // from offer to answer
	back   time.Duration // to come online again, before its sessions are over
	settle time.Duration // from a session's start to where it must be known to be carried
}

// maxOpening bounds WebSockets that have not proved anything yet. When it is
// reached, further ones are answered 503 at once.
const maxOpening = 4096

// New returns the door, or an error when the configuration makes no sense.
func New(c Config, gate *session.Gate, deps Deps) (*Door, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	d := &Door{
		Config:      c,
		deps:        deps,
		gate:        gate,
		log:         deps.Log.With("door", Name),
		refusals:    door.NewLimiter(deps.Now),
		opening:     make(chan struct{}, maxOpening),
		patience:    patience{hello: 10 * time.Second, answer: 10 * time.Second, back: 5 * time.Minute, settle: time.Minute},
		starting:    map[*door.Socket]bool{},
		online:      map[string]*conn{},
		carried:     map[string]*visit{},
		missed:      map[string]time.Time{},
		openingFrom: map[netip.Addr]int{},
	}
	d.counts = newCounters(deps.Metrics, d)
	deps.Changes.OnChange(d.changed)
	return d, nil
}

// Mount puts the door's addresses on the shared listener.
func (d *Door) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/device", d.serveDevice)
	mux.Handle("/whep/device/{id}", door.CORS("POST, OPTIONS", http.HandlerFunc(d.serveTarget)))
	mux.Handle("/whep/device/{id}/{session}", door.CORS("PATCH, POST, DELETE, OPTIONS", http.HandlerFunc(d.serveSession)))
	mux.Handle("/connect-token", door.CORS("GET, OPTIONS", http.HandlerFunc(d.serveToken)))
}

// Serve keeps watch until ctx ends: it drops silent devices and takes sessions
// that no device carries any more off the list. Then it drains: no new callers, those in
// hand are served, and every device is told to come back elsewhere.
func (d *Door) Serve(ctx context.Context) error {
	stop, err := d.deps.Bus.Subscribe(newsSubject, d.hear)
	if err != nil {
		return fmt.Errorf("cannot serve devices: %w", err)
	}
	defer stop()
	silent, lost := time.NewTicker(d.Keepalive/2), time.NewTicker(lostEvery)
	defer silent.Stop()
	defer lost.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-silent.C:
			d.dropSilent()
		case <-lost.C:
			d.endStale(ctx)
		}
	}
	d.drain()
	return nil
}

// begin takes a request in hand, unless the door drains. end is its opposite.
func (d *Door) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return false
	}
	d.working.Add(1)
	return true
}

func (d *Door) end() { d.working.Done() }

// spawn runs f in a goroutine that the door waits for. It does nothing once the
// door has drained.
func (d *Door) spawn(f func()) {
	if !d.begin() {
		return
	}
	go func() {
		defer d.end()
		f()
	}()
}
