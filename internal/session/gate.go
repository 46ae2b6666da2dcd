// Package session lets callers in and keeps the list of everyone inside.
//
// Gate.Admit is the only way to a Session, and a Session is what media asks for:
// whoever has one was verified, allowed, written down and can be thrown out again.
// A session ends when its time is up, when its token, subject, key or device is
// revoked, when it is ended by name, or when its door says so; its context ends
// with it.
//
// Revocations cannot slip through while somebody is being let in. A session is on
// the (inner) list before its admission is committed, so that a change which is
// heard later finds it. A change which was heard earlier, but after the credential
// was verified, has a revision between that of the claims and that of the commit;
// Admit reads these changes and takes the admission back if one concerns it.
package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// TicketTTL is how long a resume ticket lives past its issue.
const TicketTTL = 2 * time.Minute

// ledgerTimeout bounds every write that must happen whether or not the caller is
// still there.
const ledgerTimeout = 10 * time.Second

// ErrClosed refuses everyone once the gate has closed.
var ErrClosed = errors.New("gate is closed")

// verifier says whether a credential is genuine, and whether claims still stand.
// Refusals are the sentinels of package token.
type verifier interface {
	Verify(ctx context.Context, raw string) (token.Claims, error)
	Recheck(ctx context.Context, c token.Claims) (token.Claims, error)
}

// listener passes on what was revoked, disabled or ended anywhere.
type listener interface {
	OnChange(func(token.Change))
}

// ledger makes durable what happens at the gate.
type ledger interface {
	admissions
	tenure
	trail
}

type admissions interface {
	Admit(ctx context.Context, a access.Admission) (revision int64, err error)
	Abort(ctx context.Context, session, reason string, at time.Time) error
	End(ctx context.Context, session, reason string, voidTicket bool, at time.Time) error
	Spent(ctx context.Context, tokenID string) (bool, error)
}

type tenure interface {
	Session(ctx context.Context, id string) (access.Entry, error)
	Adopt(ctx context.Context, id, node string) (access.Entry, error)
	RenewTicket(ctx context.Context, session, oldHash, newHash string, end time.Time) error
}

type trail interface {
	Note(ctx context.Context, e access.Event) error
	Changes(ctx context.Context, after int64, limit int) ([]token.Change, error)
}

// Config is what a gate needs to know of its surroundings.
type Config struct {
	Node string           // id of this node, for the list of sessions
	Now  func() time.Time // nil: time.Now
	Log  *slog.Logger     // nil: discarded
}

// Gate admits callers and holds their sessions. Its methods may be called from any
// goroutine.
type Gate struct {
	node     string
	now      func() time.Time
	log      *slog.Logger
	verifier verifier
	ledger   ledger
	stop     chan struct{} // closed by Close: writes that failed are not tried again

	// busy counts admissions and writes under way, one for each session at most.
	// It grows only while mu is held and closed is false.
	busy sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	sessions map[string]*Session // by id; those being admitted too
}

// NewGate builds a gate that verifies with v, writes to w and hears of changes from l.
func NewGate(c Config, v verifier, w ledger, l listener) *Gate {
	g := &Gate{
		node: c.Node, now: c.Now, log: c.Log, verifier: v, ledger: w,
		stop: make(chan struct{}), sessions: make(map[string]*Session),
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	l.OnChange(g.EndMatching)
	return g
}

// Session returns the session of this id if it is inside, at this node.
func (g *Gate) Session(id string) (*Session, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.sessions[id]
	return s, ok && s.state == inside
}

// List returns the sessions that are inside at this node, the oldest first.
func (g *Gate) List() []*Session {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Session, 0, len(g.sessions))
	for _, s := range g.sessions {
		if s.state == inside {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(x, y *Session) int {
		return cmp.Or(x.Started.Compare(y.Started), cmp.Compare(x.ID, y.ID))
	})
	return all
}

// Close refuses everyone from now on, ends the contexts of all sessions with reason
// Draining, and waits for what is being written. The sessions stay on the durable
// list: their devices bring them back to whichever node they find.
func (g *Gate) Close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.stop)
	}
	for _, s := range g.sessions {
		g.finish(s, Draining)
	}
	g.mu.Unlock()
	g.busy.Wait()
}

// enter puts a session where changes find it, though not yet on the list. Whoever
// enters calls busy.Done when the admission is settled.
func (g *Gate) enter(s *Session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if _, ok := g.sessions[s.ID]; ok {
		return errors.New("session is being taken over already")
	}
	g.busy.Add(1)
	g.sessions[s.ID] = s
	return nil
}

// open puts a session that has entered on the list, unless it was ended meanwhile.
func (g *Gate) open(s *Session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.state == over {
		return refusal(s.reason)
	}
	s.state = inside
	if end := s.Grant.Expires; !end.IsZero() {
		s.timer = time.AfterFunc(end.Sub(g.now()), func() { g.endSoon(s, Expired) })
	}
	return nil
}

// refusal is what somebody gets whose session ended before it was open.
func refusal(reason string) error {
	switch reason {
	case Draining:
		return ErrClosed
	case Expired:
		return token.ErrExpired
	}
	return token.ErrRevoked
}

// leave takes a session off again that was never open.
func (g *Gate) leave(s *Session, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.finish(s, reason)
}

func (g *Gate) newSession(claims token.Claims, grant access.Grant) *Session {
	ctx, cancel := context.WithCancel(context.Background())
	return &Session{
		ID: rand.Text(), Grant: grant, Replaces: claims.Session, Started: g.now(),
		gate: g, issued: claims.Issued, ctx: ctx, cancel: cancel,
	}
}
