package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

const (
	newsSubject = "device.session" // every node hears here what became of a session
	lostEvery   = 30 * time.Second // how often sessions that nobody carries are looked for
	endPatience = 5 * time.Second  // for telling a device that a session is over
	callWait    = 6 * time.Second  // for the callers in hand to be served
	drainWait   = 3 * time.Second  // for telling all devices to go elsewhere
)

// news tells the other nodes about a session: that it is over, or, without a
// reason, that Node keeps it from now on.
type news struct {
	Session string `json:"session"`
	Reason  string `json:"reason,omitempty"`
	Node    string `json:"node"`
}

// closedReason puts a device's word for why a connection is over into the gate's:
// whether the client or the device closed it, nobody forbade to come back.
func closedReason(said string) string {
	if said == "failed" {
		return session.Failed
	}
	return session.Remote
}

// watch tells the device when the session ends, for whatever reason.
func (d *Door) watch(s *session.Session) {
	id, ok := deviceOf(s.Grant.Resource)
	if !ok {
		return
	}
	context.AfterFunc(s.Context(), func() {
		reason := s.Reason()
		if reason == session.Draining || !d.begin() {
			return // another node keeps the session, or will when the device comes there
		}
		defer d.end()
		d.tellEnd(id, s.ID, reason)
	})
}

// tellEnd reaches the device wherever it is. A device that is offline learns it
// when it comes back, by its hello.
func (d *Door) tellEnd(deviceID, id, reason string) {
	d.mu.Lock()
	v := d.carried[id]
	d.mu.Unlock()
	if v != nil { // on this node, as a rule: then it does not take a bus to reach it
		v.conn.tell(id, reason)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	_, err := d.ask(ctx, deviceID, ask{Kind: askEnd, Session: id, Reason: reason})
	if err != nil && !errors.Is(err, errOffline) {
		d.log.Warn("cannot tell a device that a session is over", "device", deviceID, "session", id, "error", err)
	}
}

func deviceOf(resource string) (id string, ok bool) {
	return strings.CutPrefix(resource, access.DeviceResource(""))
}

// takeUp goes through the sessions that a device brings along when it comes
// online: the living ones are this node's from now on, the others are returned.
func (d *Door) takeUp(ctx context.Context, c *conn, reported []string) (end []string) {
	for _, id := range reported {
		if err := d.keep(ctx, c.id, id); err != nil {
			if token.Reason(err) == "" {
				d.log.Warn("cannot take up a session", "device", c.id, "session", id, "error", err)
			}
			end = append(end, id)
			continue
		}
		c.carry(id, &visit{conn: c})
	}
	return end
}

// keep makes sure that a living session of the device is on this node's list, and
// on no other's.
func (d *Door) keep(ctx context.Context, deviceID, id string) error {
	if _, here := d.inside(deviceID, id); here {
		return nil
	}
	if _, err := d.adopt(ctx, deviceID, id); err != nil {
		return err
	}
	d.tellNodes(news{Session: id, Node: d.deps.Node})
	return nil
}

// inside returns a session of the device that is on this node's list.
func (d *Door) inside(deviceID, id string) (*session.Session, bool) {
	s, ok := d.gate.Session(id)
	return s, ok && s.Grant.Resource == access.DeviceResource(deviceID)
}

// adopt takes a living session of the device over from another node, or from an
// earlier run of this one.
func (d *Door) adopt(ctx context.Context, deviceID, id string) (*session.Session, error) {
	e, err := d.deps.Records.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	if e.Target != access.DeviceResource(deviceID) || !e.Ended.IsZero() {
		return nil, fmt.Errorf("cannot adopt session %s: %w", id, token.ErrUnknown)
	}
	s, err := d.gate.Adopt(ctx, id)
	if err != nil {
		return nil, err
	}
	d.watch(s)
	return s, nil
}

// finish ends a session of the device, whichever node keeps it. It reports
// whether there was one.
func (d *Door) finish(deviceID, id, reason string) bool {
	s, here := d.inside(deviceID, id)
	if !here {
		ctx, cancel := context.WithTimeout(context.Background(), endPatience)
		defer cancel()
		var err error
		if s, err = d.adopt(ctx, deviceID, id); err != nil {
			return false
		}
	}
	s.End(reason)
	if !here {
		d.tellNodes(news{Session: id, Reason: reason, Node: d.deps.Node})
	}
	return true
}

func (d *Door) tellNodes(n news) {
	b, err := json.Marshal(n)
	if err == nil {
		err = d.deps.Bus.Publish(newsSubject, b)
	}
	if err != nil {
		d.log.Warn("cannot tell the other nodes about a session", "session", n.Session, "error", err)
	}
}

// hear takes a session off this node's list that another node ended or keeps.
func (d *Door) hear(data []byte) {
	var n news
	if json.Unmarshal(data, &n) != nil || n.Node == d.deps.Node {
		return
	}
	s, ok := d.gate.Session(n.Session)
	switch {
	case !ok || s.Door != Name:
	case n.Reason == "":
		s.Release()
	default:
		s.End(n.Reason)
	}
}

// changed hears of every revocation, in order, and must not wait.
func (d *Door) changed(c token.Change) {
	d.mu.Lock()
	at, v := d.online[c.ID], d.carried[c.ID]
	d.mu.Unlock()
	switch {
	case c.Kind == token.ChangeDevice && at != nil:
		d.spawn(func() { d.shutOut(at) })
	case c.Kind == token.ChangeSession && v != nil:
		// The node that keeps the session tells the device too; this is for the
		// case that it is gone.
		d.spawn(func() { v.conn.tell(c.ID, session.Kicked) })
	}
}

// shutOut ends the connection of a device that was disabled, removed or given
// another secret; its sessions first.
func (d *Door) shutOut(c *conn) {
	d.mu.Lock()
	carried := slices.Clone(c.sessions)
	d.mu.Unlock()
	for _, id := range carried {
		c.tell(id, session.Revoked)
	}
	c.quit()
	c.socket.Close(byeRefused.code(), string(byeRefused))
}

// dropSilent closes connections on which nothing was heard for three keepalives.
func (d *Door) dropSilent() {
	limit := time.Now().Add(-3 * d.Keepalive)
	var silent []*conn
	d.mu.Lock()
	for _, c := range d.online {
		if c.socket.Heard().Before(limit) {
			silent = append(silent, c)
		}
	}
	d.mu.Unlock()
	eachOf(silent, func(c *conn) {
		c.quit()
		c.socket.Close(byeTimeout.code(), string(byeTimeout))
	})
}

// endStale ends sessions on this node that are nobody's any more: those whose
// device has been away, from every node, for as long as it may take to come back,
// and those that a device which is online does not carry, because it was
// restarted.
func (d *Door) endStale(ctx context.Context) {
	away := map[string]bool{}
	for _, s := range d.gate.List() {
		id, ok := deviceOf(s.Grant.Resource)
		if s.Door != Name || !ok || away[id] && d.missedSince(id) < d.patience.back {
			continue
		}
		switch d.whereabouts(ctx, id, s.ID) {
		case deviceAway:
			away[id] = true
			if d.missedSince(id) >= d.patience.back {
				s.End(session.Lost)
			}
		case notCarried:
			if d.deps.Now().Sub(s.Started) >= d.patience.settle {
				s.End(session.Failed)
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.missed, func(id string, _ time.Time) bool { return !away[id] })
}

// whereabouts of a session.
type whereabouts int

const (
	carried whereabouts = iota // or not to be found out at the moment
	notCarried
	deviceAway
)

// whereabouts asks the node of the device whether the device carries the session.
func (d *Door) whereabouts(ctx context.Context, deviceID, id string) whereabouts {
	d.mu.Lock()
	here, v := d.online[deviceID] != nil, d.carried[id]
	d.mu.Unlock()
	switch {
	case v != nil:
		return carried
	case here:
		return notCarried
	}
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	r, err := d.ask(ctx, deviceID, ask{Kind: askCarries, Session: id})
	switch {
	case errors.Is(err, errOffline):
		return deviceAway
	case err == nil && r.Code == codeUnknown:
		return notCarried
	}
	return carried
}

// missedSince is how long a device has been away, counted from the first time
// this was asked.
func (d *Door) missedSince(id string) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	first, known := d.missed[id]
	if !known {
		first = d.deps.Now()
		d.missed[id] = first
	}
	return d.deps.Now().Sub(first)
}

// drain refuses new callers, waits for those in hand, which takes no longer than
// a device may take to answer, and sends every device elsewhere, spread over time
// so that they do not all arrive at once. Their sessions go on.
func (d *Door) drain() {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	d.awaitCalls()
	d.mu.Lock()
	all, starting := slices.Collect(maps.Values(d.online)), slices.Collect(maps.Keys(d.starting))
	d.mu.Unlock()
	eachOf(starting, func(s *door.Socket) { s.Close(byeDraining.code(), string(byeDraining)) })
	spread := 1000 + len(all) // milliseconds
	deadline := time.Now().Add(drainWait)
	eachOf(all, func(c *conn) {
		if time.Now().Before(deadline) {
			send(c.socket, signal.Drain{AfterMS: min(rand.IntN(spread), 3600_000)})
		}
		c.quit()
		c.socket.Close(byeDraining.code(), string(byeDraining))
	})
	d.working.Wait()
}

// awaitCalls waits for the callers in hand, but no longer than callWait: the devices
// have to be told in time whatever some caller does.
func (d *Door) awaitCalls() {
	done := make(chan struct{})
	go func() {
		d.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(callWait):
	}
}

// eachOf calls f for each, for many at a time: a silent connection takes a second
// to close.
func eachOf[T any](all []T, f func(T)) {
	const atOnce = 256
	var working sync.WaitGroup
	next := make(chan T)
	for range min(atOnce, len(all)) {
		working.Go(func() {
			for c := range next {
				f(c)
			}
		})
	}
	for _, c := range all {
		next <- c
	}
	close(next)
	working.Wait()
}
