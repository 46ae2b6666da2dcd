// Package client connects to a device with a connect token, receives its video and
// sound, and exchanges commands and messages with it. Media comes straight from the
// device.
//
//	conn, err := client.New(client.Config{Server: "https://turnpike.example.com"})
//	…
//	defer conn.Close()
//	conn.Attach(0, client.VideoOutput(func(f client.VideoFrame) { … }))
//	conn.Attach(1, client.AudioOutput(func(f client.AudioFrame) { … }))
//	err = conn.Connect(ctx, "AABBCCDDEEFF", token)
//
// Three acts are separate. Attach says which streams are wanted and where their
// frames go; it works before and after connecting. Connect establishes the connection
// and nothing else. What an output does with a frame (decode, store, forward) is its
// own affair.
//
// A connect token is good once. When the network is lost, the connection resumes on
// its own, with a ticket the server handed out, for as long as that is valid.
//
// # Threads and callbacks
//
// All methods may be called from any goroutine, also from inside callbacks, except
// that Close, Connect, Subscribe and Unsubscribe wait and therefore must not be called
// from a callback. Callbacks run on goroutines of this package. An output gets one
// frame at a time. If it is slow, sound loses its oldest frames and video everything
// up to the next key frame, which then says so in Discontinuity. Other callbacks come
// one at a time; one that blocks holds up the others. Byte slices passed to callbacks
// are the application's to keep.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/token"
)

// State is where a connection is in its life.
type State int

// The states. A connection may go from Connected back to Connecting when the network
// is lost and it resumes, and from Disconnected to Connecting by another Connect.
const (
	Idle State = iota
	Connecting
	Connected
	Disconnected
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Idle:
		return "idle"
	case Connecting:
		return "connecting"
	case Connected:
		return "connected"
	}
	return "disconnected"
}

// Errors that callers act on. Compare with errors.Is. What the server says no to is
// an *Error instead.
var (
	ErrNotConnected = errors.New("not connected")
	ErrConnected    = errors.New("connection is in use: close it first")
	ErrInUse        = errors.New("stream has an output already")
	ErrNoStream     = errors.New("device has no such stream")
	ErrSubscription = errors.New("device refused the stream")
	ErrReserved     = errors.New("command words below 0x2000 are reserved")
	ErrTooLarge     = errors.New("payload is too large")
	ErrBusy         = errors.New("device does not read what it was sent")
	ErrLost         = errors.New("connection was lost")
)

// ICEServer is a STUN or TURN server to find a way through NATs with.
type ICEServer struct {
	URLs       []string // stun:host:port, turn:host:port?transport=udp, …
	Username   string
	Credential string
}

// Config says where to connect and whom to tell. Only Server is required.
type Config struct {
	Server string       // address of the server: http or https, host and port
	HTTP   *http.Client // nil means http.DefaultClient
	// ICEServers help to find a way to the device, besides those the server names.
	ICEServers []ICEServer
	NoResume   bool         // do not resume after a loss; go to Disconnected with ErrLost
	Log        *slog.Logger // nil discards

	// OnState is told of each change, with the cause when something went wrong.
	OnState func(s State, cause error)
	// OnStreams is told which streams the device has: at the start and when it changes.
	OnStreams func(streams []Stream)
	// OnCommand receives a command, a word of 0x2000 or more that nothing in between
	// interprets.
	OnCommand func(word uint32, payload []byte)
	// OnMessage receives data that belongs to a moment of a stream.
	OnMessage func(m Message)
	// OnRefused is told when the device does not give a stream that has an output.
	// The cause is ErrNoStream or ErrSubscription, with the device's words.
	OnRefused func(stream uint8, cause error)
}

// Stream is one of those a device has.
type Stream struct {
	ID      uint8
	Codec   Codec
	Sending bool // this client gets it
}

// Message is data that belongs to a moment of a stream.
type Message struct {
	Stream      uint8
	Flags       uint8
	TimestampMs uint32 // on the device's clock for the stream
	Payload     []byte // at most 65,528 bytes
}

// Conn is a connection to one device at a time. Close it when it is no longer needed.
type Conn struct {
	config Config
	local  bool // the server is on this machine

	calls sync.Mutex // held during callbacks, so that they come one at a time

	mu      sync.Mutex // guards what follows
	state   State
	outputs map[uint8]Output
	fitted  map[uint8]int // how often a stream got an output: tells a new one from the old
	peer    *peer         // nil unless Connected
	begun   time.Time     // when the connection was first up
	stop    context.CancelFunc
	keeper  sync.WaitGroup // the goroutine that keeps the session
	tasks   sync.WaitGroup // subscriptions in the background
}

// New checks the configuration. It connects to nothing.
func New(c Config) (*Conn, error) {
	u, err := url.Parse(c.Server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("cannot make connection: server address is not a URL like https://turnpike.example.com")
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ip := net.ParseIP(u.Hostname())
	return &Conn{
		config: c, local: u.Hostname() == "localhost" || ip != nil && ip.IsLoopback(),
		outputs: make(map[uint8]Output), fitted: make(map[uint8]int),
	}, nil
}

// State returns the present state.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// setState tells the application of a change.
func (c *Conn) setState(s State, cause error) {
	c.mu.Lock()
	changed := c.state != s
	c.state = s
	c.mu.Unlock()
	if f := c.config.OnState; f != nil && changed {
		c.call(func() { f(s, cause) })
	}
}

func (c *Conn) call(f func()) {
	c.calls.Lock()
	defer c.calls.Unlock()
	f()
}

// Attach sends the frames of a stream to output from now on. While connected it also
// asks the device for the stream, in the background: if the device says no, OnRefused
// tells. The error is ErrInUse when the stream has an output.
func (c *Conn) Attach(stream uint8, output Output) error {
	c.mu.Lock()
	if c.outputs[stream] != nil {
		c.mu.Unlock()
		return fmt.Errorf("cannot attach to stream %d: %w", stream, ErrInUse)
	}
	c.outputs[stream] = output
	c.fitted[stream]++
	p := c.peer
	if p != nil {
		c.tasks.Add(1)
	}
	c.mu.Unlock()
	if p != nil {
		go func() {
			defer c.tasks.Done()
			p.want(stream)
		}()
	}
	return nil
}

// Detach stops sending frames to the stream's output, and asks the device to stop the
// stream. A frame that is being delivered may still be under way when it returns.
func (c *Conn) Detach(stream uint8) {
	c.mu.Lock()
	had := c.outputs[stream] != nil
	delete(c.outputs, stream)
	p := c.peer
	if had && p != nil {
		c.tasks.Add(1)
	}
	c.mu.Unlock()
	if had && p != nil {
		go func() {
			defer c.tasks.Done()
			ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
			defer cancel()
			if err := p.unsubscribe(ctx, stream); err != nil {
				c.config.Log.Debug("cannot unsubscribe", "stream", stream, "error", err)
			}
		}()
	}
}

// output returns a stream's output, or nil, and which one in a row it is.
func (c *Conn) output(stream uint8) (Output, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outputs[stream], c.fitted[stream]
}

// attached returns the ids of the streams of a kind that have an output, ascending.
func (c *Conn) attached(kind media.Kind) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []int
	for id := range 256 {
		if o := c.outputs[uint8(id)]; o != nil && o.kind() == kind {
			ids = append(ids, id)
		}
	}
	return ids
}

// Connect presents a connect token for a device, bare or as device://<id>, and waits
// until the connection is up. ctx bounds the waiting, not the connection. When the
// server says no, the error is an *Error; the token is spent only by success.
func (c *Conn) Connect(ctx context.Context, remoteID, connectToken string) error {
	id, err := token.ParseRemoteID(remoteID)
	if err != nil {
		return fmt.Errorf("cannot connect: %w", err)
	}
	c.mu.Lock()
	if c.state == Connecting || c.state == Connected {
		c.mu.Unlock()
		return fmt.Errorf("cannot connect: %w", ErrConnected)
	}
	c.state, c.begun = Connecting, time.Time{}
	life, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.keeper.Add(1)
	c.mu.Unlock()
	if f := c.config.OnState; f != nil {
		c.call(func() { f(Connecting, nil) })
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(life, cancel)() // Close ends a Connect under way

	p, s, err := c.open(ctx, id, connectToken)
	if err != nil {
		stop()
		c.setState(Disconnected, err)
		c.keeper.Done()
		return fmt.Errorf("cannot connect to %s: %w", id, err)
	}
	c.install(p)
	go func() {
		defer c.keeper.Done()
		defer stop()
		c.keep(life, id, p, s)
	}()
	return nil
}

// Close ends the connection and waits until everything it started has ended. The Conn
// can be connected again.
func (c *Conn) Close() error {
	c.mu.Lock()
	stop := c.stop
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
	c.keeper.Wait()
	c.tasks.Wait()
	return nil
}
