package device

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

// Times of protocol/device.md, 1.1 and 1.2.
const (
	openTimeout   = 10 * time.Second // from dialling to the welcome
	pongTimeout   = 10 * time.Second
	writeTimeout  = 10 * time.Second
	shortestDelay = time.Second
	longestDelay  = 30 * time.Second
)

// errDrained ends a visit because the server asked for it. after is when to come back.
type errDrained struct{ after time.Duration }

func (errDrained) Error() string { return "server drains" }

// stay visits servers until ctx ends. One timer ends the sessions when none was
// reached within the lease.
func (d *Device) stay(ctx context.Context) error {
	lease := time.AfterFunc(time.Hour, func() {
		d.config.Log.Warn("no server reached within the session lease: sessions end", "device", d.ID())
		for _, v := range d.Viewers() {
			v.end("failed")
		}
	})
	lease.Stop()
	defer lease.Stop()

	wasOnline := false
	for attempt := 0; ; attempt++ {
		online, err := d.visit(ctx, lease)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !wasOnline && !online && (errors.Is(err, ErrRefused) || errors.Is(err, ErrClientID) || errors.Is(err, ErrServer)) {
			return fmt.Errorf("cannot bring device %s online: %w", d.ID(), err)
		}
		if online {
			wasOnline, attempt = true, 0
		}
		wait := delay(attempt, err)
		d.config.Log.Info("device is offline", "device", d.ID(), "cause", err, "retry", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// delay says how long to wait before the next attempt: 1 s, doubled each time up to
// 30 s, drawn between half and the whole so that devices do not come back all at once.
func delay(attempt int, err error) time.Duration {
	var drained errDrained
	if errors.As(err, &drained) {
		return drained.after
	}
	whole := min(shortestDelay<<min(attempt, 5), longestDelay)
	switch websocket.CloseStatus(err) {
	case signal.CloseReplaced, signal.CloseRefused, signal.CloseConflict, signal.CloseSlowDown:
		whole = longestDelay
	}
	return whole/2 + rand.N(whole/2+1)
}

// visit connects to the server once and stays until the connection ends. online says
// that the server had accepted the device.
func (d *Device) visit(ctx context.Context, lease *time.Timer) (online bool, err error) {
	l, welcome, err := d.open(ctx)
	if err != nil {
		return false, err
	}
	lease.Stop()
	d.mu.Lock()
	d.link, d.lease = l, time.Duration(welcome.SessionLease)*time.Second
	d.mu.Unlock()
	for _, id := range welcome.End {
		d.endSession(id)
	}
	d.config.Log.Info("device is online", "device", d.ID(), "epoch", welcome.Epoch)
	if f := d.config.OnOnline; f != nil {
		f()
	}

	err = d.attend(ctx, l, welcome)
	if ctx.Err() != nil {
		return true, ctx.Err() // Run still reports the sessions' ends over this link
	}
	d.mu.Lock()
	d.link = nil
	if d.lease > 0 {
		lease.Reset(d.lease)
	}
	d.mu.Unlock()
	l.close()
	if f := d.config.OnOffline; f != nil {
		f(err)
	}
	return true, err
}

// link is one open WebSocket.
type link struct {
	conn   *websocket.Conn
	once   sync.Once
	reader sync.WaitGroup
}

// open dials and goes through challenge, hello and welcome.
func (d *Device) open(ctx context.Context) (l *link, welcome *signal.Welcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, d.server, &websocket.DialOptions{
		HTTPClient: d.config.HTTP, Subprotocols: []string{signal.Subprotocol},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect: %w", err)
	}
	defer func() {
		if err != nil {
			conn.CloseNow()
		}
	}()
	conn.SetReadLimit(signal.MaxMessage)
	l = &link{conn: conn}

	challenge, err := expect[signal.Challenge](ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	nonce := token.NewNonce()
	err = l.send(signal.Hello{
		DeviceID: d.ID(), ClientID: d.config.ClientID, Nonce: nonce, Version: d.config.Version,
		Proof:    token.DeviceProof(d.license.Secret, challenge.Nonce, nonce, d.ID(), d.config.ClientID),
		Sessions: d.sessions(),
	})
	if err != nil {
		return nil, nil, err
	}
	welcome, err = expect[signal.Welcome](ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	if !hmac.Equal([]byte(welcome.Proof), []byte(token.ServerProof(d.license.Secret, nonce, challenge.Nonce))) {
		return nil, nil, ErrServer
	}
	return l, welcome, nil
}

// expect reads one message of a type. A close code becomes the error it means.
func expect[T any](ctx context.Context, conn *websocket.Conn) (*T, error) {
	_, data, err := conn.Read(ctx)
	switch websocket.CloseStatus(err) {
	case signal.CloseRefused:
		return nil, errors.Join(ErrRefused, err)
	case signal.CloseConflict:
		return nil, errors.Join(ErrClientID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	m, err := signal.Decode(data)
	if err != nil {
		return nil, err
	}
	want, ok := any(m).(*T)
	if !ok {
		return nil, fmt.Errorf("cannot open connection: unexpected %s: %w", m.Type(), signal.ErrMalformed)
	}
	return want, nil
}

// attend reads messages until the connection ends, and pings meanwhile.
func (d *Device) attend(ctx context.Context, l *link, w *signal.Welcome) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var pings sync.WaitGroup
	pings.Go(func() {
		if err := l.ping(ctx, time.Duration(w.Keepalive)*time.Second); err != nil {
			cancel(err)
		}
	})
	defer pings.Wait()
	defer cancel(nil)

	messages := make(chan []byte)
	read := make(chan error, 1)
	l.reader.Go(func() { read <- l.read(ctx, messages) })
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-read:
			return err
		case data := <-messages:
			if err := d.receive(l, data, w.ICEServers); err != nil {
				return err
			}
		}
	}
}

// read passes on messages. Reading with a context that ends would close the
// connection, over which the ends of sessions are still to be reported.
func (l *link) read(ctx context.Context, messages chan<- []byte) error {
	for {
		_, data, err := l.conn.Read(context.Background())
		if err != nil {
			return fmt.Errorf("connection to server ended: %w", err)
		}
		select {
		case messages <- data:
		case <-ctx.Done():
		}
	}
}

func (l *link) ping(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		pong, cancel := context.WithTimeout(ctx, pongTimeout)
		err := l.conn.Ping(pong)
		cancel()
		if err != nil {
			return fmt.Errorf("server does not answer: %w", err)
		}
	}
}

// send writes one message. Several goroutines may send.
func (l *link) send(m signal.Message) error {
	data, err := signal.Encode(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	if err := l.conn.Write(ctx, websocket.MessageText, data); err != nil {
		return fmt.Errorf("cannot send %s to server: %w", m.Type(), err)
	}
	return nil
}

// close ends the connection and waits for its reader.
func (l *link) close() {
	l.once.Do(func() { l.conn.Close(websocket.StatusNormalClosure, "") })
	l.reader.Wait()
}

// receive acts on one message of the server.
func (d *Device) receive(l *link, data []byte, servers []signal.ICEServer) error {
	m, err := signal.Decode(data)
	if errors.Is(err, signal.ErrUnknownType) {
		return l.send(signal.Error{Code: "unknown_type"})
	}
	if err != nil {
		l.conn.Close(signal.CloseMalformed, "malformed")
		return err
	}
	switch m := m.(type) {
	case *signal.Offer:
		if len(m.ICEServers) > 0 {
			servers = m.ICEServers
		}
		return d.admit(l, m, servers)
	case *signal.Candidate:
		d.viewer(m.Session).trickle(m.Fragment)
	case *signal.End:
		if !d.endSession(m.Session) {
			return l.send(signal.Closed{Session: m.Session, Reason: "ended"})
		}
	case *signal.Drain:
		return errDrained{time.Duration(m.AfterMS) * time.Millisecond}
	case *signal.Error:
		d.config.Log.Warn("server complains", "device", d.ID(), "code", m.Code, "message", m.Message)
	}
	return nil
}

// admit starts a viewer, or refuses when there are enough.
func (d *Device) admit(l *link, o *signal.Offer, servers []signal.ICEServer) error {
	d.mu.Lock()
	if _, known := d.viewers[o.Session]; known || len(d.viewers) >= d.config.MaxViewers {
		d.mu.Unlock()
		return l.send(signal.Refuse{Session: o.Session, Code: "busy", Message: "the device has as many viewers as it takes"})
	}
	v := newViewer(d, o.Session, o.Subject)
	d.viewers[v.id] = v
	d.handle.Add(1)
	d.mu.Unlock()
	go func() {
		defer d.handle.Done()
		v.run(o, servers)
	}()
	return nil
}

// viewer returns the viewer of a session, or nil.
func (d *Device) viewer(session string) *Viewer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.viewers[session]
}

func (d *Device) endSession(id string) bool {
	v := d.viewer(id)
	if v != nil {
		v.end("ended")
	}
	return v != nil
}

func (d *Device) sessions() []string {
	var ids []string
	for _, v := range d.Viewers() {
		ids = append(ids, v.id)
	}
	return ids
}

// report sends a message about a session if the server can be reached. If not, the
// next hello tells which sessions are left.
func (d *Device) report(m signal.Message) {
	d.mu.Lock()
	l := d.link
	d.mu.Unlock()
	if l == nil {
		return
	}
	if err := l.send(m); err != nil {
		d.config.Log.Debug("cannot report", "device", d.ID(), "error", err)
	}
}
