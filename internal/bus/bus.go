// Package bus carries what need not survive between nodes: who holds a device, a
// request to that node, a hint that something has changed. It is core NATS, nothing on
// disk, and the same code in three settings: a server inside this process that nobody
// else can reach (the default), such servers joined by routes, and an external NATS.
//
// Interest is presence: a node that answers a subject holds what it names, and a
// request nobody answers fails at once with ErrNoResponders.
//
// A published message arrives at most once, and under a flood perhaps not at all. What
// matters is a request, with a time limit.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Errors that callers act on. Compare with errors.Is.
var (
	ErrNoResponders = errors.New("nobody answers this subject")
	ErrBusy         = errors.New("the node that answers has too much to do")
	ErrTooLarge     = errors.New("message is larger than the bus carries")
	ErrDisconnected = errors.New("bus is not connected")
	ErrClosed       = errors.New("bus is closed")
)

// Config says which of the three settings it is. URL excludes Listen and Routes.
type Config struct {
	URL         string       // external servers, "nats://user:password@host:4222", several with commas; empty: embedded
	Credentials string       // a .creds file for the external server; empty: what the URL says
	Name        string       // the node's id, unique among the nodes
	Listen      string       // "host:port" where other embedded servers join; port 0 takes a free one
	Routes      []string     // "host:port" of other embedded servers, one is enough
	RouteSecret string       // what joined servers have in common; needed with Listen or Routes
	Log         *slog.Logger // nil: discarded
}

// Limits, the same in all settings.
const (
	maxPayload     = 1 << 20          // of the embedded server; an external one has its own
	requestTimeout = 30 * time.Second // of a request whose context has no end
	drainTimeout   = 5 * time.Second  // how long Close waits for what is under way
)

// Bus is a connection to the other nodes. All its methods may be called at the same time.
type Bus struct {
	log    *slog.Logger
	conn   *nats.Conn
	server *server.Server // nil with an external one
	gone   chan struct{}  // closed when the connection is closed for good

	answering

	mu            sync.Mutex // guards what follows
	closed        bool
	subscriptions map[*subscription]struct{}
	readers       sync.WaitGroup // one for each subscription
}

// Open starts the embedded server or connects to the external one, for which it keeps
// trying until ctx ends, 30 seconds at most. Later the connection comes back by itself.
func Open(ctx context.Context, c Config) (*Bus, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	b := &Bus{log: c.Log, gone: make(chan struct{}), subscriptions: map[*subscription]struct{}{}}
	if err := b.connect(ctx, c); err != nil {
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		return nil, fmt.Errorf("cannot open bus: %w", err)
	}
	b.startAnswering()
	return b, nil
}

func (b *Bus) connect(ctx context.Context, c Config) (err error) {
	if c.URL != "" {
		if c.Listen != "" || len(c.Routes) > 0 {
			return errors.New("an external server and routes exclude each other")
		}
		return b.connectExternal(ctx, c)
	}
	return b.startEmbedded(ctx, c)
}

// options are those of every connection.
func (b *Bus) options(c Config) []nats.Option {
	return []nats.Option{
		nats.Name(c.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second), // a restarted server is not met by all at once
		nats.ReconnectBufSize(-1),                               // disconnected, say so instead of pretending
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("bus is disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.log.Info("bus is connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			attrs := []any{"error", err}
			if sub != nil {
				attrs = append(attrs, "subject", sub.Subject)
			}
			b.log.Warn("bus lost messages or refused something", attrs...)
		}),
		nats.ClosedHandler(func(*nats.Conn) { close(b.gone) }),
	}
}

// Close takes no more messages, lets what is under way finish for up to five seconds,
// and returns when all goroutines have ended. The contexts of handlers that take
// longer end.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()

	b.stopAnswering()
	b.stopSubscriptions()
	err := b.flush()
	b.conn.Close()
	<-b.gone
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return err
}

func (b *Bus) flush() error {
	if !b.conn.IsConnected() {
		return nil
	}
	if err := b.conn.FlushTimeout(drainTimeout); err != nil {
		return fmt.Errorf("cannot flush bus: %w", err)
	}
	return nil
}

// Connected reports whether the bus reaches its server, for a readiness check.
func (b *Bus) Connected() bool { return b.conn.IsConnected() }

// MaxPayload returns the most bytes of one message.
func (b *Bus) MaxPayload() int { return int(b.conn.MaxPayload()) }

// Publish sends data to all who subscribe to the subject, this node included. It
// returns when the message is on its way, which does not mean that it arrives.
func (b *Bus) Publish(subject string, data []byte) error {
	err := b.sendable(subject, data)
	if err == nil {
		err = b.conn.Publish(subject, data)
	}
	if err != nil {
		return fmt.Errorf("cannot publish to %q: %w", subject, ours(err))
	}
	return nil
}

// Request asks whoever answers the subject and waits for the answer until ctx ends, or
// for 30 seconds. The one who answers learns of that limit.
//
// Errors: ErrNoResponders at once when nobody answers; ErrBusy when he has too much to
// do; ErrTooLarge; ErrDisconnected; ctx.Err(), also in the rare case that the one who
// answers goes away, with his node, while the request is on its way.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout) // an earlier end of ctx stays
	defer cancel()
	answer, err := b.request(ctx, subject, data)
	if err != nil {
		return nil, fmt.Errorf("cannot request %q: %w", subject, ours(err))
	}
	return answer, nil
}

func (b *Bus) request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := b.sendable(subject, data); err != nil {
		return nil, err
	}
	if !b.conn.IsConnected() {
		return nil, ErrDisconnected
	}
	end, _ := ctx.Deadline()
	m := nats.NewMsg(subject)
	m.Data = data
	m.Header.Set(headerLimit, strconv.FormatInt(time.Until(end).Milliseconds(), 10))
	answer, err := b.conn.RequestMsgWithContext(ctx, m)
	if err != nil {
		return nil, err
	}
	switch answer.Header.Get(headerError) {
	case "":
		return answer.Data, nil
	case errorGone:
		return nil, ErrNoResponders
	case errorTooLarge:
		return nil, fmt.Errorf("the answer: %w", ErrTooLarge)
	}
	return nil, ErrBusy
}

func (b *Bus) sendable(subject string, data []byte) error {
	if !validSubject(subject) {
		return errors.New("not a subject")
	}
	if most := b.MaxPayload(); len(data) > most {
		return fmt.Errorf("%d bytes of at most %d: %w", len(data), most, ErrTooLarge)
	}
	return nil
}

// ours translates the errors of NATS, whose names go no further.
func ours(err error) error {
	for _, e := range []struct{ theirs, ours error }{
		{nats.ErrNoResponders, ErrNoResponders},
		{nats.ErrMaxPayload, ErrTooLarge},
		{nats.ErrReconnectBufExceeded, ErrDisconnected},
		{nats.ErrDisconnected, ErrDisconnected},
		{nats.ErrConnectionReconnecting, ErrDisconnected},
		{nats.ErrConnectionClosed, ErrClosed},
		{nats.ErrTimeout, context.DeadlineExceeded},
	} {
		if errors.Is(err, e.theirs) {
			return e.ours
		}
	}
	return err
}

// validSubject reports whether s is names separated by dots. Wildcards are not names:
// one who could choose an id would otherwise choose whom to listen to.
func validSubject(s string) bool {
	name := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && name == 0, c <= ' ', c == 0x7f, c == '*', c == '>':
			return false
		case c == '.':
			name = 0
		default:
			name++
		}
	}
	return name > 0
}
