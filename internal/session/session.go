package session

import (
	"context"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// Session is somebody inside: what they may do, and a context that lasts as long
// as they may stay. Only a Gate makes one.
type Session struct {
	ID       string
	Grant    access.Grant
	Door     string    // the door they came in by
	From     string    // the address they came from
	Started  time.Time //
	Replaces string    // the session that this one resumes; empty: none

	gate   *Gate
	issued time.Time       // of the token, for revocations of its subject
	ctx    context.Context // the session, as a context
	cancel context.CancelFunc

	// Guarded by gate.mu.
	state     state
	reason    string
	ticket    string
	ticketEnd time.Time
	timer     *time.Timer // ends the session; nil: it has no end of its own
}

// state is how far a session has come.
type state int

const (
	entering state = iota // changes find it, nobody else does
	inside
	over
)

// Why sessions end, as far as the gate or several doors must agree on it. A door may
// have reasons of its own.
const (
	Expired  = "expired"  // its token's time is up, and the app's rule is to end it then
	Revoked  = "revoked"  // its token, subject, key or device is
	Kicked   = "kicked"   // a person ended it
	Resumed  = "resumed"  // its client came back and has another
	Deleted  = "deleted"  // its client said good-bye
	Remote   = "remote"   // the other side closed the connection
	Failed   = "failed"   // the connection broke
	Lost     = "lost"     // its device was not heard of for too long
	Draining = "draining" // this node goes away; the session itself goes on
)

// voids reports whether the resume ticket is void with the session. It survives
// what is nobody's will, and nothing else.
func voids(reason string) bool {
	switch reason {
	case Remote, Failed, Lost, Resumed, Draining:
		return false
	}
	return true
}

// Context ends with the session. Reason says why.
func (s *Session) Context() context.Context { return s.ctx }

// May reports whether the session may take action on resource, now.
func (s *Session) May(a access.Action, resource string) bool {
	return s.ctx.Err() == nil && s.Grant.Covers(a, resource)
}

// Ticket returns the resume ticket and when it expires; empty when the session's
// credential came with none, or when another node has handed it out.
func (s *Session) Ticket() (string, time.Time) {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.ticket, s.ticketEnd
}

// Reason returns why the session ended, or "" while it lasts.
func (s *Session) Reason() string {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.reason
}

// End ends the session. Its context ends at once; End returns when the durable list
// says so too, or when that has failed several times. The first end counts, later
// ones do nothing.
func (s *Session) End(reason string) { s.gate.end(s, reason) }

// Abort takes the admission back, because what it was for did not come about: the
// token or ticket is good again. It does nothing to a session that has ended.
func (s *Session) Abort(reason string) { s.gate.abort(s, reason) }

// Release forgets the session at this node without ending it, because its device
// has gone to another node. Its context ends with reason Draining.
func (s *Session) Release() { s.gate.leave(s, Draining) }
