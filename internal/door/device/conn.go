package device

import (
	"context"
	"errors"
	"slices"

	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

// conn is one device that is online. There are tens of thousands, mostly idle:
// what only a busy one needs is made when it is needed.
type conn struct {
	door   *Door
	id     string
	epoch  int64
	socket *door.Socket

	// The rest is guarded by door.mu.
	stop     func()        // stops answering for the device on the bus
	sessions []string      // those it carries
	greeting chan struct{} // closed, and nil, once the device has its welcome, before which no offer may come
	left     bool
}

// visit is a session of a device on this node.
type visit struct {
	conn  *conn
	ufrag string              // ICE user name of the client's offer, to tell a restart; empty: not known
	reply chan signal.Message // where the answer to the offer goes; nil when it was answered
}

// send writes one message. A message that cannot be encoded is a mistake of this
// program and counts as not sent.
func send(s *door.Socket, m signal.Message) bool {
	b, err := signal.Encode(m)
	return err == nil && s.Write(b) == nil
}

// serve reads the device's messages until the connection ends.
func (c *conn) serve() {
	defer c.leave()
	for {
		b, err := c.socket.Read()
		if err == nil && c.handle(b) {
			continue
		}
		bye := byeMalformed
		if err != nil && !errors.Is(err, door.ErrNotText) {
			bye = "" // the device is gone, or this side closed
		}
		c.socket.Close(bye.code(), string(bye))
		return
	}
}

// handle does what one message asks; it reports false when the device talks
// nonsense.
func (c *conn) handle(b []byte) bool {
	m, err := signal.Decode(b)
	if errors.Is(err, signal.ErrUnknownType) {
		return send(c.socket, signal.Error{Code: "unknown_type", Message: "This server does not know this type of message."})
	}
	if err != nil {
		return false
	}
	switch m := m.(type) {
	case *signal.Answer:
		c.reply(m.Session, m)
	case *signal.Refuse:
		c.reply(m.Session, m)
		c.drop(m.Session)
	case *signal.Connected:
		c.door.counts.connected(m.Path)
		c.door.spawn(func() { c.connected(m.Session) })
	case *signal.Closed:
		pending := c.reply(m.Session, &signal.Refuse{Session: m.Session, Code: "failed"})
		if c.drop(m.Session) && !pending {
			// Not here: while the database is away, the device's pings must be answered.
			c.door.spawn(func() { c.door.finish(c.id, m.Session, closedReason(m.Reason)) })
		}
	case *signal.Error:
		c.door.log.Debug("device complains", "device", c.id, "code", m.Code)
	}
	return true
}

// connected makes this node the one that keeps the session: it is where its end
// will be heard of, even when the node that let the client in is gone by then.
func (c *conn) connected(id string) {
	if !c.carries(id) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.door.patience.hello)
	defer cancel()
	if err := c.door.keep(ctx, c.id, id); err != nil && !errors.Is(err, token.ErrUnknown) {
		c.door.log.Warn("cannot take up a session", "device", c.id, "session", id, "error", err)
	}
}

// offer asks the device to take a client, and waits for its answer.
func (c *conn) offer(ctx context.Context, a ask) reply {
	answered := make(chan signal.Message, 1)
	if !c.ready(ctx) || !c.carry(a.Session, &visit{conn: c, ufrag: a.Ufrag, reply: answered}) {
		return reply{Code: codeGone}
	}
	ctx, cancel := context.WithTimeout(ctx, c.door.patience.answer)
	defer cancel()
	if !send(c.socket, signal.Offer{Session: a.Session, SDP: a.SDP, Subject: a.Subject, Streams: a.Streams}) {
		c.drop(a.Session)
		return reply{Code: codeGone}
	}
	select {
	case m := <-answered:
		switch m := m.(type) {
		case *signal.Answer:
			return reply{SDP: m.SDP}
		case *signal.Refuse:
			return reply{Code: codeRefused, Detail: m.Code}
		}
		return reply{Code: codeGone}
	case <-ctx.Done():
		c.tell(a.Session, "timeout")
		return reply{Code: codeTimeout}
	}
}

// tell asks the device to end a session, once.
func (c *conn) tell(id, reason string) {
	if c.drop(id) {
		send(c.socket, signal.End{Session: id, Reason: reason})
	}
}

// carry notes a session of this device. It fails when the device has left.
func (c *conn) carry(id string, v *visit) bool {
	d := c.door
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.left {
		return false
	}
	if d.carried[id] == nil {
		c.sessions = append(c.sessions, id)
	}
	d.carried[id] = v
	return true
}

func (c *conn) carries(id string) bool {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	v := c.door.carried[id]
	return v != nil && v.conn == c
}

// drop forgets a session, and reports whether this device carried it.
func (c *conn) drop(id string) bool {
	d := c.door
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.carried[id]
	if v == nil || v.conn != c {
		return false
	}
	delete(d.carried, id)
	c.sessions = slices.DeleteFunc(c.sessions, func(s string) bool { return s == id })
	if len(c.sessions) == 0 {
		c.sessions = nil
	}
	return true
}

// reply passes the device's word to whoever waits for it, and reports whether
// somebody did. There is one word per offer; a second one is of no interest.
func (c *conn) reply(id string, m signal.Message) bool {
	d := c.door
	d.mu.Lock()
	defer d.mu.Unlock()
	v := d.carried[id]
	if v == nil || v.conn != c || v.reply == nil {
		return false
	}
	v.reply <- m // it has a place for one, and reply becomes nil
	v.reply = nil
	return true
}

// overtaken reports whether the database knows a later start of the device.
func (c *conn) overtaken(ctx context.Context) bool {
	p, err := c.door.deps.Presence.Presence(ctx, c.id)
	return err == nil && p.Epoch > c.epoch
}

// close ends the connection from this side; serve then leaves.
func (c *conn) close(bye farewell) {
	c.quit()
	c.door.spawn(func() { c.socket.Close(bye.code(), string(bye)) })
}

// quit stops answering for the device: offers that wait fail, none comes after.
func (c *conn) quit() {
	d := c.door
	d.mu.Lock()
	stop := c.stop
	c.left, c.stop = true, nil
	if d.online[c.id] == c {
		delete(d.online, c.id)
	}
	for _, id := range c.sessions {
		if v := d.carried[id]; v != nil && v.conn == c {
			if v.reply != nil {
				close(v.reply)
			}
			delete(d.carried, id)
		}
	}
	c.sessions = nil
	d.mu.Unlock()
	c.welcomed()
	if stop != nil {
		stop()
	}
}

// answers is the end of coming online: stop is how to go off the bus again.
func (c *conn) answers(stop func()) {
	c.door.mu.Lock()
	left := c.left
	if !left {
		c.stop = stop
	}
	c.door.mu.Unlock()
	if left {
		stop()
	}
}

// welcomed lets offers through.
func (c *conn) welcomed() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	if c.greeting != nil {
		close(c.greeting)
		c.greeting = nil
	}
}

// ready reports whether an offer would reach the device, once it has its welcome.
func (c *conn) ready(ctx context.Context) bool {
	c.door.mu.Lock()
	greeting, left := c.greeting, c.left
	c.door.mu.Unlock()
	if left || greeting == nil {
		return !left
	}
	select {
	case <-greeting:
		return c.ready(ctx)
	case <-ctx.Done():
		return false
	}
}

// leave takes the device offline.
func (c *conn) leave() {
	c.quit()
	ctx, cancel := context.WithTimeout(context.Background(), c.door.patience.hello)
	defer cancel()
	if err := c.door.deps.Presence.Offline(ctx, c.id, c.epoch); err != nil {
		c.door.log.Warn("cannot put down that a device is offline", "device", c.id, "error", err)
	}
	c.door.log.Debug("device is offline", "device", c.id, "epoch", c.epoch)
}
