package device

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

// yieldPatience is how long the present holder of a device may take to let go.
const yieldPatience = time.Second

// farewell is why a WebSocket is closed, as the text beside the close code. The
// empty one means that it stays.
type farewell string

const (
	byeMalformed farewell = "malformed"
	byeRefused   farewell = "refused"
	byeConflict  farewell = "client_id_conflict"
	byeTimeout   farewell = "timeout"
	byeReplaced  farewell = "replaced"
	byeSlowDown  farewell = "slow_down"
	byeDraining  farewell = "draining"
	byeFull      farewell = "full"
	byeBroken    farewell = "unavailable" // this server cannot do its work
)

func (f farewell) code() int {
	switch f {
	case byeMalformed:
		return signal.CloseMalformed
	case byeRefused:
		return signal.CloseRefused
	case byeConflict:
		return signal.CloseConflict
	case byeTimeout:
		return signal.CloseTimeout
	case byeReplaced:
		return signal.CloseReplaced
	case byeSlowDown:
		return signal.CloseSlowDown
	case byeDraining, byeFull, byeBroken:
		return signal.CloseDraining
	}
	return 1000
}

// serveDevice is GET /v1/device: accept, challenge, hello, welcome. The handler
// returns as soon as the device is online, and with it everything that net/http
// holds for a request; the one goroutine of an idle device is its reader.
func (d *Door) serveDevice(w http.ResponseWriter, r *http.Request) {
	if leave, ok := d.beginOpening(door.ClientIP(r)); ok {
		defer leave()
	} else {
		door.RetryAfter(w, 5*time.Second)
		door.Problem(w, http.StatusTooManyRequests, "slow_down", "Too many devices are starting at this address at once. Try again soon.")
		return
	}
	select {
	case d.opening <- struct{}{}:
		defer func() { <-d.opening }()
	default:
		door.RetryAfter(w, 5*time.Second)
		door.Problem(w, http.StatusServiceUnavailable, "full", "Too many devices are starting at once. Try again soon.")
		return
	}
	if !d.begin() {
		refuseDraining(w)
		return
	}
	defer d.end()
	from, host := door.ClientIP(r), hostOf(r)
	socket, err := door.AcceptSocket(w, r, signal.Subprotocol, signal.MaxMessage)
	if err != nil {
		return
	}
	d.setStarting(socket, true)
	c, bye := d.open(socket, from, host)
	d.setStarting(socket, false)
	if c == nil {
		socket.Close(bye.code(), string(bye))
		return
	}
	d.working.Add(1) // within begin, so it cannot race with the end of drain
	go func() {
		defer d.end()
		c.serve()
	}()
}

// setStarting keeps the list of those that have not proved anything yet, so that
// they do not hold up the end of this server.
func (d *Door) setStarting(s *door.Socket, on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if on {
		d.starting[s] = true
	} else {
		delete(d.starting, s)
	}
}

// open takes a device from its challenge to its welcome.
func (d *Door) open(socket *door.Socket, from netip.Addr, host string) (*conn, farewell) {
	challenge := token.NewSecret()
	if !send(socket, signal.Challenge{Nonce: challenge, Time: d.deps.Now().Unix()}) {
		return nil, byeTimeout
	}
	hello, bye := d.readHello(socket)
	if hello == nil {
		return nil, bye
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.patience.hello)
	defer cancel()
	proof, bye := d.prove(ctx, hello, challenge, from)
	if bye != "" {
		return nil, bye
	}
	c := &conn{door: d, id: hello.DeviceID, socket: socket, greeting: make(chan struct{})}
	if bye := d.comeOnline(ctx, c, hello, from); bye != "" {
		return nil, bye
	}
	welcome := signal.Welcome{
		Proof:        proof,
		Epoch:        c.epoch,
		Keepalive:    int(d.Keepalive / time.Second),
		SessionLease: int(d.SessionLease / time.Second),
		ICEServers:   d.iceServers(host),
		End:          d.takeUp(ctx, c, hello.Sessions),
	}
	if !send(socket, welcome) {
		c.leave()
		return nil, byeTimeout
	}
	c.welcomed()
	d.log.Debug("device is online", "device", c.id, "epoch", c.epoch, "from", from)
	return c, ""
}

// maxOpeningFrom bounds the WebSockets of one address that have not proved anything
// yet, so that it cannot take all the places.
const maxOpeningFrom = 512

// beginOpening counts a WebSocket of an address until leave is called.
func (d *Door) beginOpening(from netip.Addr) (leave func(), ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.openingFrom[from] >= maxOpeningFrom {
		return nil, false
	}
	d.openingFrom[from]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.openingFrom[from]--; d.openingFrom[from] == 0 {
			delete(d.openingFrom, from)
		}
	}, true
}

func (d *Door) readHello(socket *door.Socket) (*signal.Hello, farewell) {
	b, err := socket.ReadBy(time.Now().Add(d.patience.hello))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, byeTimeout
	case err != nil:
		return nil, byeMalformed
	}
	m, err := signal.Decode(b)
	hello, ok := m.(*signal.Hello)
	if err != nil || !ok {
		return nil, byeMalformed
	}
	return hello, ""
}

// prove checks the device's proof and that it is the hardware bound to its id.
func (d *Door) prove(ctx context.Context, h *signal.Hello, challenge string, from netip.Addr) (string, farewell) {
	device, proof, err := d.deps.Authority.ProveDevice(ctx, h.DeviceID, h.ClientID, challenge, h.Nonce, h.Proof)
	if err != nil {
		return "", d.refuseDevice(ctx, h.DeviceID, "", err, from)
	}
	bound, err := d.deps.Presence.BindDevice(ctx, h.DeviceID, h.ClientID)
	if err != nil {
		return "", d.refuseDevice(ctx, h.DeviceID, device.App, err, from)
	}
	if bound != h.ClientID {
		d.noteRefusal(ctx, h.DeviceID, device.App, string(byeConflict), from)
		return "", byeConflict
	}
	return proof, ""
}

// refuseDevice writes a refusal down; or logs err when it is no refusal, but a
// failure of this server.
func (d *Door) refuseDevice(ctx context.Context, id, app string, err error, from netip.Addr) farewell {
	reason := token.Reason(err)
	if reason == "" {
		d.log.Error("cannot put a device online", "device", id, "error", err)
		return byeBroken
	}
	blocked := d.quiet(from)
	if !blocked {
		d.noteRefusal(ctx, id, app, reason, from)
		d.refused(ctx, from)
	}
	if blocked {
		return byeSlowDown
	}
	return byeRefused
}

func (d *Door) noteRefusal(ctx context.Context, id, app, reason string, from netip.Addr) {
	d.note(ctx, access.Event{
		Kind: "refused", Reason: reason, App: app, Resource: access.DeviceResource(id), From: from.String(),
	})
}

// note writes an event to the audit trail; the door, the node and the time are
// filled in.
func (d *Door) note(ctx context.Context, e access.Event) {
	e.At, e.Door, e.Node = d.deps.Now(), Name, d.deps.Node
	if err := d.deps.Records.Note(ctx, e); err != nil {
		d.log.Error("cannot write to the audit trail", "kind", e.Kind, "error", err)
	}
}

// comeOnline makes this the one connection of the device. The order matters: the
// database gives the epoch first, so that of two starts at once the later one is
// known; then the present holder is asked to let go; then this one answers for
// the device; and then it looks whether it was overtaken or shut out meanwhile.
func (d *Door) comeOnline(ctx context.Context, c *conn, h *signal.Hello, from netip.Addr) farewell {
	if d.full(c.id) {
		return byeFull
	}
	now := d.deps.Now()
	epoch, err := d.deps.Presence.Online(ctx, access.Presence{
		DeviceID: c.id, Node: d.deps.Node, ClientID: h.ClientID, Since: now, From: from.String(), Version: h.Version,
	})
	if err != nil {
		return d.refuseDevice(ctx, c.id, "", err, from)
	}
	c.epoch = epoch
	d.askToYield(ctx, c)
	if bye := d.hold(c); bye != "" {
		c.leave()
		return bye
	}
	stop, err := d.deps.Bus.Answer(subject(c.id), c.answer)
	if err != nil {
		c.leave()
		return d.refuseDevice(ctx, c.id, "", err, from)
	}
	c.answers(stop)
	if c.overtaken(ctx) {
		c.leave()
		return byeReplaced
	}
	if device, err := d.deps.Records.Device(ctx, c.id); err != nil || device.Disabled {
		c.leave()
		return byeRefused
	}
	return ""
}

func (d *Door) full(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.online) >= d.MaxDevices && d.online[id] == nil
}

func (d *Door) askToYield(ctx context.Context, c *conn) {
	ctx, cancel := context.WithTimeout(ctx, yieldPatience)
	defer cancel()
	_, err := d.ask(ctx, c.id, ask{Kind: askYield, Epoch: c.epoch})
	if err != nil && !errors.Is(err, errOffline) {
		d.log.Warn("the present holder of a device does not answer; it will find out by the epoch", "device", c.id, "error", err)
	}
}

// hold puts c on the list, unless a later start is there already, or the list is
// being cleared.
func (d *Door) hold(c *conn) farewell {
	d.mu.Lock()
	present := d.online[c.id]
	switch {
	case d.draining:
		d.mu.Unlock()
		return byeDraining
	case present != nil && present.epoch > c.epoch:
		d.mu.Unlock()
		return byeReplaced
	}
	d.online[c.id] = c
	d.mu.Unlock()
	if present != nil {
		present.close(byeReplaced)
	}
	return ""
}

// hostOf is the host by which the caller reached this server, without the port.
func hostOf(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(`<>"/?#@,;`, c) }) {
		return ""
	}
	return host
}

// iceServers are the configured ones, or this server under the name it was
// reached by.
func (d *Door) iceServers(host string) []signal.ICEServer {
	urls := d.ICEServers
	if len(urls) == 0 && d.deps.MediaUDPPort != "" && host != "" {
		urls = []string{"stun:" + net.JoinHostPort(host, d.deps.MediaUDPPort)}
	}
	if len(urls) == 0 {
		return nil
	}
	return []signal.ICEServer{{URLs: urls}}
}
