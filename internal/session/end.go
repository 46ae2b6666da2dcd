package session

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// What must be written is tried until it is, with a pause that doubles from retryPause
// up to longestPause: a session that ended while the database was away must not stay
// on the list.
const (
	retryPause   = time.Second
	longestPause = 30 * time.Second
)

// EndMatching ends the sessions at this node that a change concerns. Their contexts
// have ended when it returns; the durable list follows. The gate does this by itself
// for every change it hears of.
func (g *Gate) EndMatching(c token.Change) {
	reason := Revoked
	if c.Kind == token.ChangeSession {
		reason = Kicked
	}
	for _, s := range g.concerned(c) {
		g.endSoon(s, reason)
	}
}

func (g *Gate) concerned(c token.Change) (found []*Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.Kind == token.ChangeSession {
		if s, ok := g.sessions[c.ID]; ok {
			found = append(found, s)
		}
		return found
	}
	if c.Kind == token.ChangeRecord {
		return nil
	}
	for _, s := range g.sessions {
		if s.concernedBy(c) {
			found = append(found, s)
		}
	}
	return found
}

// concernedBy reports whether s must end because of c.
func (s *Session) concernedBy(c token.Change) bool {
	switch c.Kind {
	case token.ChangeToken:
		return c.ID == s.Grant.TokenID
	case token.ChangeSubject:
		return c.App == s.Grant.App && c.ID == s.Grant.Subject && !s.issued.After(c.At)
	case token.ChangeKey:
		return c.ID == s.Grant.KeyID
	case token.ChangeDevice:
		id, ok := strings.CutPrefix(s.Grant.Resource, "device:")
		return ok && id == c.ID
	case token.ChangeSession:
		return c.ID == s.ID
	}
	return false
}

// finish marks the end of a session and reports whether it was inside. g.mu is held.
func (g *Gate) finish(s *Session, reason string) bool {
	if s.state == over {
		return false
	}
	was := s.state
	s.state, s.reason = over, reason
	if s.timer != nil {
		s.timer.Stop()
	}
	delete(g.sessions, s.ID)
	s.cancel()
	return was == inside
}

// end ends a session and writes it down.
func (g *Gate) end(s *Session, reason string) {
	if g.begin(s, reason) {
		defer g.busy.Done()
		g.write(s.ID, reason)
	}
}

// endSoon ends a session, and has it written down by a goroutine that Close waits for.
func (g *Gate) endSoon(s *Session, reason string) {
	if !g.begin(s, reason) {
		return // it is over already, or whoever is admitting it will notice
	}
	go func() {
		defer g.busy.Done()
		g.write(s.ID, reason)
	}()
}

// begin finishes a session. When it was inside, its end has to be written, and then
// busy.Done called.
func (g *Gate) begin(s *Session, reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.finish(s, reason) {
		return false
	}
	g.busy.Add(1) // Close finished every session first, so it cannot be waiting
	return true
}

// resumed ends the session that another one continues. The ledger has its end already.
func (g *Gate) resumed(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s, ok := g.sessions[id]; ok {
		g.finish(s, Resumed)
	}
}

func (g *Gate) abort(s *Session, reason string) {
	if !g.begin(s, reason) {
		return
	}
	defer g.busy.Done()
	g.persist(s.ID, func(ctx context.Context) error { return g.ledger.Abort(ctx, s.ID, reason, g.now()) })
}

func (g *Gate) write(id, reason string) {
	at := g.now()
	g.persist(id, func(ctx context.Context) error {
		if (reason == Lost || reason == Kicked) && g.settled(ctx, id, reason) {
			return nil
		}
		return g.ledger.End(ctx, id, reason, voids(reason), at)
	})
}

// settled reports whether it is not for this gate to write the end of a session:
// another node has heard of the device that is lost here; or the change was no kick,
// but the client came back elsewhere, and the ledger has that already.
func (g *Gate) settled(ctx context.Context, id, reason string) bool {
	e, err := g.ledger.Session(ctx, id)
	if err != nil {
		return false
	}
	return reason == Lost && e.Node != g.node || reason == Kicked && !e.Ended.IsZero()
}

// persist writes with f what must be written. It tries once, and leaves further tries,
// until f succeeds or the gate closes, to a goroutine: nobody waits for a database that
// is away. Its caller is counted in busy, and so is the goroutine.
func (g *Gate) persist(id string, f func(context.Context) error) {
	err := bounded(f)
	if err == nil {
		return
	}
	g.log.Warn("cannot write the end of a session yet", slog.String("session", id), slog.Any("error", err))
	g.busy.Add(1)
	go func() {
		defer g.busy.Done()
		for pause := retryPause; ; pause = min(2*pause, longestPause) {
			select {
			case <-g.stop:
				g.log.Error("cannot write the end of a session before closing", slog.String("session", id), slog.Any("error", err))
				return
			case <-time.After(pause):
			}
			if err = bounded(f); err == nil {
				return
			}
		}
	}()
}

// bounded calls f with as long as a write may take.
func bounded(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), ledgerTimeout)
	defer cancel()
	return f(ctx)
}
