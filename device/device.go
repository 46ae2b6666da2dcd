// Package device puts a camera, a sensor or any other source of pictures and sound
// online, so that clients with a connect token can reach it. Media goes straight
// from the device to each viewer; the server only introduces them.
//
//	d, err := device.New(device.Config{
//		Server:   "https://turnpike.example.com",
//		License:  "AABBCCDDEEFF,<device_secret_key>",
//		ClientID: "00:11:22:33:44:55",
//		Streams:  []device.Stream{{ID: 0, Codec: device.H264}, {ID: 1, Codec: device.ALaw}},
//	})
//	…
//	go feed(d)           // calls d.Send for each frame, whether or not anyone watches
//	err = d.Run(ctx)     // online until ctx ends
//
// # Frames
//
// Send takes one frame of one stream at a time and returns at once: it copies what
// it needs into bounded queues, one per viewer, and never waits for the network. A
// viewer that cannot follow loses frames up to the next key frame; the others do not
// notice. The frames since the last key frame are kept, so that a new viewer sees a
// picture immediately.
//
// # Threads and callbacks
//
// All methods may be called from any goroutine, also from inside callbacks.
// Callbacks run on goroutines of this package: those with a *Viewer one at a time for
// each viewer, OnSessionStart first and OnSessionEnd last. A callback that blocks
// holds up its viewer's commands and messages and nothing else, but Run cannot return
// before it does. Byte slices passed to callbacks are the application's to keep.
//
// The protocol is written down in protocol/device.md.
package device

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

// Codec names the coding of a stream's frames.
type Codec string

// The codecs a device can send.
const (
	H264   Codec = Codec(media.H264)   // Annex-B access units, without B-frames
	ALaw   Codec = Codec(media.ALaw)   // G.711 A-law, 8 kHz mono; 20 ms are 160 bytes
	ALaw16 Codec = Codec(media.ALaw16) // G.711 A-law, 16 kHz mono; viewers get it as G.722
)

// Stream declares something the device sends. Viewers choose streams by ID; those who
// do not choose get the lowest ID of each kind.
type Stream struct {
	ID    uint8
	Codec Codec
}

// Frame is one picture with everything needed to decode it after the one before, or
// a piece of sound of any length, usually 20 ms.
type Frame struct {
	// TimestampMs is when the frame was captured, in milliseconds on a clock of the
	// device's choice that all its streams share. It may wrap around. Two frames of
	// one stream must not have the same.
	TimestampMs uint32
	// Key says that decoding can begin here. It is checked: an H.264 key frame has an
	// IDR picture. Sound ignores it.
	Key bool
	// Data is copied before Send returns.
	Data []byte
}

// Config says who the device is and what it does. Server, License, ClientID and
// Streams are required.
type Config struct {
	Server   string   // address of the server: http or https, host and port
	License  string   // "<device_id>,<device_secret_key>", as the server handed it out
	ClientID string   // physical identity: MAC address or serial number; 1 to 64 printable ASCII characters
	Streams  []Stream // what the device sends; at most 16
	Version  string   // of the device's software, shown to operators; at most 128 printable ASCII characters

	MaxViewers int          // sessions at a time; further ones are refused as busy; 0 means 16
	SendBuffer int          // bytes that may wait for one viewer of one video stream; 0 means 1 MiB
	HTTP       *http.Client // for the connection to the server; nil means http.DefaultClient
	Log        *slog.Logger // nil discards

	// OnOnline is called when the server has accepted the device, and OnOffline when
	// the connection to it was lost. Sessions go on without a server for as long as it
	// allows. Both are called by Run, in turn.
	OnOnline  func()
	OnOffline func(error)

	// OnSessionStart is called when a viewer is connected, OnSessionEnd when it has
	// gone; then the viewer has received its last frame, and why says how it ended:
	// "remote" (the viewer left), "failed" (the network), "ended" (the server), or
	// "device" (Viewer.Close or the end of Run).
	OnSessionStart func(v *Viewer)
	OnSessionEnd   func(v *Viewer, why string)

	// OnSubscribe is asked before a viewer gets a stream, also for those it gets at the
	// start (before OnSessionStart). An error refuses; its text goes to the viewer.
	// OnUnsubscribe tells that the viewer has stopped the stream itself.
	OnSubscribe   func(v *Viewer, stream uint8) error
	OnUnsubscribe func(v *Viewer, stream uint8)

	// OnCommand receives a command, a word of 0x2000 or more that nothing in between
	// interprets. OnMessage receives data that belongs to a moment of a stream.
	OnCommand func(v *Viewer, word uint32, payload []byte)
	OnMessage func(v *Viewer, m Message)

	// OnKeyFrameRequest asks the encoder for a key frame soon, because a viewer lost
	// its picture or needs a first one. Requests are coalesced: at most two a second
	// for each stream. It is not called one at a time.
	OnKeyFrameRequest func(stream uint8)
}

// Message is data that belongs to a moment of a stream. Nothing in between gives the
// flags or the payload a meaning.
type Message struct {
	Stream      uint8
	Flags       uint8
	TimestampMs uint32 // on the clock of the stream's frames
	Payload     []byte // at most 65,528 bytes
}

// Errors that callers act on. Compare with errors.Is.
var (
	ErrRefused       = errors.New("device is unknown or disabled, or its secret is wrong")
	ErrClientID      = errors.New("device id is bound to another client id")
	ErrServer        = errors.New("server did not prove that it knows the device")
	ErrNoStream      = errors.New("stream is not one of Config.Streams")
	ErrNeedsKeyFrame = errors.New("first frame must be a key frame with SPS, PPS and IDR picture")
	ErrFrame         = errors.New("frame is not what its stream carries")
	ErrReserved      = errors.New("command words below 0x2000 are reserved")
	ErrTooLarge      = errors.New("payload is too large")
	ErrNotOpen       = errors.New("viewer has no open channel for it")
	ErrBusy          = errors.New("viewer does not read what it was sent")
)

// Device is one device. New makes it, Run brings it online.
type Device struct {
	config  Config
	license token.License
	server  string // of the WebSocket
	local   bool   // the server is on this machine
	streams []*stream

	mu      sync.Mutex // guards what follows
	viewers map[string]*Viewer
	link    *link // nil while offline
	lease   time.Duration
	running bool
	handle  sync.WaitGroup // one per viewer, waited for by Run
}

// New checks the configuration. It starts nothing.
func New(c Config) (*Device, error) {
	d := &Device{config: c, viewers: make(map[string]*Viewer)}
	var err error
	if d.license, err = token.ParseLicense(c.License); err != nil {
		return nil, fmt.Errorf("cannot make device: %w", err)
	}
	if d.server, d.local, err = socketURL(c.Server); err != nil {
		return nil, fmt.Errorf("cannot make device: %w", err)
	}
	if len(c.ClientID) < 1 || len(c.ClientID) > signal.MaxClientID {
		return nil, errors.New("cannot make device: ClientID must have 1 to 64 characters")
	}
	if len(c.Streams) == 0 || len(c.Streams) > 16 {
		return nil, errors.New("cannot make device: want 1 to 16 streams")
	}
	d.setDefaults()
	for _, s := range c.Streams {
		if media.Codec(s.Codec).Kind() == "" || s.Codec == Codec(media.G722) {
			return nil, fmt.Errorf("cannot make device: stream %d has unknown codec %q", s.ID, s.Codec)
		}
		if d.stream(int(s.ID)) != nil {
			return nil, fmt.Errorf("cannot make device: two streams have id %d", s.ID)
		}
		d.streams = append(d.streams, newStream(s, c.OnKeyFrameRequest))
	}
	slices.SortFunc(d.streams, func(a, b *stream) int { return int(a.id) - int(b.id) })
	return d, nil
}

func (d *Device) setDefaults() {
	c := &d.config
	if c.MaxViewers == 0 {
		c.MaxViewers = 16
	}
	if c.SendBuffer == 0 {
		c.SendBuffer = 1 << 20
	}
	if c.Version == "" {
		c.Version = "turnpike-go/1.0"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// socketURL turns the server's address into that of the devices' WebSocket, and says
// whether it is on this machine.
func socketURL(server string) (string, bool, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", false, errors.New("server address is not a URL like https://turnpike.example.com")
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", false, fmt.Errorf("server address has scheme %q: want http or https", u.Scheme)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.JoinPath("/v1/device").String(), local, nil
}

// ID returns the device id.
func (d *Device) ID() string { return d.license.DeviceID }

// Send gives one frame of a stream to everyone who watches it, and keeps it for those
// who come. It never waits for a viewer. Frames of one stream must come in order;
// different streams may be sent from different goroutines. Errors concern the frame
// alone: ErrNoStream, ErrNeedsKeyFrame, ErrFrame.
func (d *Device) Send(stream uint8, f Frame) error {
	s := d.stream(int(stream))
	if s == nil {
		return fmt.Errorf("cannot send to stream %d: %w", stream, ErrNoStream)
	}
	if err := s.send(f, time.Now()); err != nil {
		return fmt.Errorf("cannot send to stream %d: %w", stream, err)
	}
	return nil
}

// SendCommand sends a command to every connected viewer and returns how many will get
// it: those whose command channel is open and not clogged. The error says that the
// command itself is wrong: ErrReserved or ErrTooLarge.
func (d *Device) SendCommand(word uint32, payload []byte) (int, error) {
	return d.each(func(v *Viewer) error { return v.SendCommand(word, payload) })
}

// SendMessage sends data that belongs to a moment of a stream to every connected
// viewer and returns how many will get it. The error is ErrTooLarge.
func (d *Device) SendMessage(m Message) (int, error) {
	return d.each(func(v *Viewer) error { return v.SendMessage(m) })
}

func (d *Device) each(send func(*Viewer) error) (int, error) {
	reached := 0
	for _, v := range d.Viewers() {
		switch err := send(v); {
		case err == nil:
			reached++
		case errors.Is(err, ErrReserved), errors.Is(err, ErrTooLarge):
			return 0, err
		}
	}
	return reached, nil
}

// Viewers returns those who are connected or about to be.
func (d *Device) Viewers() []*Viewer {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*Viewer, 0, len(d.viewers))
	for _, v := range d.viewers {
		all = append(all, v)
	}
	return all
}

// stream returns the stream with this id, or nil.
func (d *Device) stream(id int) *stream {
	for _, s := range d.streams {
		if int(s.id) == id {
			return s
		}
	}
	return nil
}

// Run keeps the device online until ctx ends, through lost networks and restarted
// servers, and then ends all sessions and waits for them. It returns ctx's error, or
// at once what can only be wrong with the configuration: ErrRefused, ErrClientID or
// ErrServer when the server has never accepted the device since Run began.
func (d *Device) Run(ctx context.Context) error {
	d.mu.Lock()
	if d.running {
		d.mu.Unlock()
		return errors.New("cannot run device: it runs already")
	}
	d.running = true
	d.mu.Unlock()

	err := d.stay(ctx)

	for _, v := range d.Viewers() {
		v.end("device")
	}
	d.handle.Wait()
	d.mu.Lock()
	last := d.link
	d.link, d.running = nil, false
	d.mu.Unlock()
	if last != nil {
		last.close()
	}
	return err
}
