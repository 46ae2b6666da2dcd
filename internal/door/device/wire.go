package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// subject is where the node that holds a device answers.
func subject(deviceID string) string { return "dev." + deviceID }

// ask is a request to the node that holds a device. Nodes of one cluster may run
// neighbouring versions: members are only ever added.
type ask struct {
	Kind     string         `json:"kind"`
	Session  string         `json:"session,omitempty"`
	SDP      string         `json:"sdp,omitempty"`
	Subject  string         `json:"subject,omitempty"`
	Streams  *signal.Wanted `json:"streams,omitempty"`
	Ufrag    string         `json:"ufrag,omitempty"`
	Fragment string         `json:"fragment,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Epoch    int64          `json:"epoch,omitempty"`
}

// Kinds of ask.
const (
	askReady     = "ready"     // would an offer reach the device?
	askOffer     = "offer"     // a client wants to connect
	askCandidate = "candidate" // a client has trickled candidates
	askEnd       = "end"       // a session is over
	askCarries   = "carries"   // does the device carry this session?
	askYield     = "yield"     // the device has started again: let go of epochs below Epoch
)

// reply answers an ask. An empty code is a yes.
type reply struct {
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail,omitempty"` // the device's own code
	SDP    string `json:"sdp,omitempty"`
}

// Codes of reply.
const (
	codeGone    = "gone"    // the device is not here any more
	codeRefused = "refused" // the device said no
	codeTimeout = "timeout" // the device said nothing
	codeRestart = "restart" // the fragment restarts ICE
	codeUnknown = "unknown" // no such session here, or no such kind of ask
)

// unreachable is why a device cannot be asked, as the word for the audit trail.
type unreachable string

func (u unreachable) Error() string { return "device cannot be reached: " + string(u) }

// Reason is the word for the audit trail (session.Reason).
func (u unreachable) Reason() string { return string(u) }

// What asking can come to, besides a reply.
const (
	errOffline unreachable = "device_offline"
	errBus     unreachable = "bus"
)

// ask sends a request to whichever node holds the device. It returns errOffline
// when none does.
func (d *Door) ask(ctx context.Context, deviceID string, a ask) (reply, error) {
	b, err := json.Marshal(a)
	if err != nil {
		return reply{}, fmt.Errorf("cannot ask for device %q: %w", deviceID, err)
	}
	b, err = d.deps.Bus.Request(ctx, subject(deviceID), b)
	switch {
	case errors.Is(err, d.deps.NobodyThere):
		return reply{}, fmt.Errorf("cannot reach %q: %w", deviceID, errOffline)
	case err != nil && ctx.Err() != nil:
		return reply{}, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return reply{}, err
	case err != nil:
		return reply{}, fmt.Errorf("%w: %w", errBus, err)
	}
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		return reply{}, fmt.Errorf("%w: %w", errBus, err)
	}
	if r.Code == codeGone {
		return reply{}, fmt.Errorf("cannot reach %q: %w", deviceID, errOffline)
	}
	return r, nil
}

// answer is the other end of ask.
func (c *conn) answer(ctx context.Context, data []byte) []byte {
	var a ask
	r := reply{Code: codeUnknown}
	if json.Unmarshal(data, &a) == nil {
		r = c.carryOut(ctx, a)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return []byte(`{"code":"unknown"}`)
	}
	return b
}

func (c *conn) carryOut(ctx context.Context, a ask) reply {
	switch a.Kind {
	case askReady:
		switch {
		case !c.ready(ctx):
			return reply{Code: codeGone}
		case c.overtaken(ctx):
			c.close(byeReplaced) // the bus was in two parts when it happened
			return reply{Code: codeGone}
		}
		return reply{}
	case askOffer:
		return c.offer(ctx, a)
	case askCandidate:
		return c.candidate(a)
	case askEnd:
		c.tell(a.Session, a.Reason)
		return reply{}
	case askCarries:
		if !c.carries(a.Session) {
			return reply{Code: codeUnknown}
		}
		return reply{}
	case askYield:
		if a.Epoch > c.epoch {
			c.close(byeReplaced)
		}
		return reply{}
	}
	return reply{Code: codeUnknown}
}

// candidate passes a fragment on, unless it restarts ICE.
func (c *conn) candidate(a ask) reply {
	c.door.mu.Lock()
	v := c.door.carried[a.Session]
	known := v != nil && v.conn == c
	restart := known && v.ufrag != "" && a.Ufrag != "" && v.ufrag != a.Ufrag
	c.door.mu.Unlock()
	switch {
	case !known:
		return reply{Code: codeUnknown}
	case restart:
		return reply{Code: codeRestart}
	case !send(c.socket, signal.Candidate{Session: a.Session, Fragment: a.Fragment}):
		return reply{Code: codeGone}
	}
	return reply{}
}
