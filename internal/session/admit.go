package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// Admit verifies the credential, decides on the request, spends the credential if it
// is good once, and returns the new session, all of it or nothing. Every refusal is
// written to the audit trail with its true reason. The error wraps a sentinel of
// package token, an access.Denied, or ErrClosed; see Reason and Code. Any other error
// means that it could not be found out.
func (g *Gate) Admit(ctx context.Context, credential string, r access.Request) (*Session, error) {
	return g.AdmitWhen(ctx, credential, r, nil)
}

// AdmitWhen is Admit for doors with a condition of their own, such as that a device
// is online. ready is called for a caller who would be let in, before the credential
// is spent; its error refuses them. Give the error a method Reason() string that
// returns the word for the audit trail.
func (g *Gate) AdmitWhen(ctx context.Context, credential string, r access.Request, ready func(context.Context, access.Grant) error) (*Session, error) {
	s, claims, err := g.admit(ctx, credential, r, ready)
	if err != nil {
		g.noteRefusal(ctx, claims, r, err)
		return nil, fmt.Errorf("cannot open session: %w", err)
	}
	return s, nil
}

func (g *Gate) admit(ctx context.Context, credential string, r access.Request, ready func(context.Context, access.Grant) error) (*Session, token.Claims, error) {
	claims, err := g.verifier.Verify(ctx, credential)
	if err != nil {
		return nil, claims, err
	}
	grant, err := access.Decide(claims, r)
	if err != nil {
		return nil, claims, err
	}
	if ready != nil {
		if err := ready(ctx, grant); err != nil {
			return nil, claims, g.notReady(ctx, claims, err)
		}
	}
	s := g.newSession(claims, grant)
	s.Door, s.From = r.Door, r.From
	if err := g.enter(s); err != nil {
		return nil, claims, err
	}
	defer g.busy.Done()
	if err := g.settle(ctx, s, credential, claims); err != nil {
		g.leave(s, Reason(err))
		return nil, claims, err
	}
	g.resumed(s.Replaces)
	return s, claims, nil
}

// errSpentBefore is ErrSpent where no commit decided it, and so none wrote it down.
var errSpentBefore = fmt.Errorf("%w before", token.ErrSpent)

// notReady is what to answer when the door's condition fails. To a token that was
// spent the condition does not matter: its holder must not hear to try it again.
func (g *Gate) notReady(ctx context.Context, claims token.Claims, err error) error {
	if !claims.Once {
		return err
	}
	spent, failed := g.ledger.Spent(ctx, claims.ID)
	switch {
	case failed != nil:
		return failed
	case spent:
		return errSpentBefore
	}
	return err
}

// settle makes the admission of s durable and opens it, or leaves no trace of it.
func (g *Gate) settle(ctx context.Context, s *Session, credential string, claims token.Claims) error {
	a := g.admission(s, claims)
	// A commit cannot be called off half-way: it goes through whatever becomes of the
	// caller, and is taken back if the caller has gone.
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
	defer cancel()
	revision, err := g.ledger.Admit(commit, a)
	if errors.Is(err, token.ErrSpent) {
		return err
	}
	if err == nil && (revision > claims.Revision || s.Replaces != "") {
		err = g.checkAgain(commit, s, credential, claims)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = g.open(s)
	}
	if err != nil {
		g.undo(s, err)
	}
	return err
}

func (g *Gate) admission(s *Session, claims token.Claims) access.Admission {
	a := access.Admission{
		Session: s.ID, Grant: s.Grant, Door: s.Door, From: s.From, Node: g.node, At: s.Started, Replaces: s.Replaces,
	}
	if claims.Once {
		a.Spends, a.SpentTill = claims.ID, claims.Expires.Add(token.MaxSkew+time.Minute)
	}
	if claims.Once || claims.Kind == token.KindTicket {
		// No lock: nobody else has the session yet.
		s.ticket, s.ticketEnd = token.NewTicket(), g.ticketEnd(s.Grant.Expires)
		a.Ticket, _ = token.ParseTicket(s.ticket)
		a.TicketEnd = s.ticketEnd
	}
	return a
}

// ticketEnd is when a ticket made now expires; never after its session would.
func (g *Gate) ticketEnd(sessionEnd time.Time) time.Time {
	end := g.now().Add(TicketTTL)
	if !sessionEnd.IsZero() && sessionEnd.Before(end) {
		return sessionEnd
	}
	return end
}

// checkAgain refuses s when something happened after its credential was verified
// and before it was spent that would have ended it.
func (g *Gate) checkAgain(ctx context.Context, s *Session, credential string, claims token.Claims) error {
	changes, err := g.concerning(ctx, s, claims.Revision)
	if err != nil {
		return err
	}
	ends := 0 // of the session that s resumes; our own commit is one
	for _, c := range changes {
		if c.Kind != token.ChangeSession || c.ID != s.Replaces {
			return token.ErrRevoked
		}
		ends++
	}
	if ends > 1 {
		return token.ErrRevoked
	}
	if s.Replaces != "" {
		// The old session may have ended for good before our commit: then its ticket
		// was void and did not come along.
		_, err = g.verifier.Verify(ctx, credential)
	}
	return err
}

// concerning returns the changes after a revision that concern s or the session it
// resumes.
func (g *Gate) concerning(ctx context.Context, s *Session, after int64) ([]token.Change, error) {
	const limit = 256
	var found []token.Change
	for {
		changes, err := g.ledger.Changes(ctx, after, limit)
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			after = c.Revision
			if s.concernedBy(c) || c.Kind == token.ChangeSession && c.ID == s.Replaces {
				found = append(found, c)
			}
		}
		if len(changes) < limit {
			return found, nil
		}
	}
}

// undo takes an admission back. What was resumed is ended for good: its ticket was
// used by somebody who must not.
func (g *Gate) undo(s *Session, cause error) {
	reason := Reason(cause)
	take := func(ctx context.Context) error {
		if s.Replaces != "" && reason == Revoked {
			return g.ledger.End(ctx, s.ID, reason, true, g.now())
		}
		return g.ledger.Abort(ctx, s.ID, reason, g.now())
	}
	if !errors.Is(cause, context.DeadlineExceeded) {
		g.persist(s.ID, take)
		return
	}
	g.busy.Add(1) // the caller is counted, so Close has not gone past it
	go func() {   // the commit hangs, and may still go through
		defer g.busy.Done()
		g.persist(s.ID, take)
	}()
}

// noteRefusal writes a refusal to the audit trail. Claims are what the credential
// said, which need not be true; the reason tells.
func (g *Gate) noteRefusal(ctx context.Context, claims token.Claims, r access.Request, err error) {
	if r.Quiet {
		return
	}
	if errors.Is(err, token.ErrSpent) && !errors.Is(err, errSpentBefore) {
		return // the ledger wrote it down in the commit that decided it
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ledgerTimeout)
	defer cancel()
	e := access.Event{
		At: g.now(), App: claims.App, Kind: "refused", Reason: Reason(err), Door: r.Door, Action: r.Action,
		Resource: r.Resource, Subject: claims.Subject, TokenID: claims.ID, KeyID: claims.KeyID,
		Session: claims.Session, From: r.From, Node: g.node,
	}
	if failed := g.ledger.Note(ctx, e); failed != nil {
		g.log.Error("cannot write a refusal to the audit trail", slog.String("reason", e.Reason), slog.Any("error", failed))
	}
}

// Adopt takes a session over that another node or an earlier run of this one had,
// because its device is here and still carries it. It fails with token.ErrUnknown
// when there is no such session, and ends it when it would not be let in any more.
func (g *Gate) Adopt(ctx context.Context, id string) (*Session, error) {
	if s, ok := g.Session(id); ok {
		return s, nil
	}
	s, err := g.adopt(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("cannot adopt session: %w", err)
	}
	return s, nil
}

func (g *Gate) adopt(ctx context.Context, id string) (*Session, error) {
	e, err := g.ledger.Session(ctx, id)
	if err != nil {
		return nil, err
	}
	if !e.Ended.IsZero() {
		return nil, token.ErrUnknown
	}
	s, claims := g.fromEntry(e)
	if err := g.enter(s); err != nil {
		return nil, err
	}
	defer g.busy.Done()
	if err := g.takeOver(ctx, s, claims); err != nil {
		g.leave(s, Reason(err))
		return nil, err
	}
	return s, nil
}

func (g *Gate) fromEntry(e access.Entry) (*Session, token.Claims) {
	claims := token.Claims{
		ID: e.TokenID, App: e.App, KeyID: e.KeyID, Subject: e.Subject, Resource: e.Target, Issued: e.Started,
	}
	s := g.newSession(claims, access.Grant{
		App: e.App, Subject: e.Subject, Resource: e.Target, Actions: e.Actions,
		Expires: e.Expires, TokenID: e.TokenID, KeyID: e.KeyID,
	})
	s.ID, s.Door, s.From, s.Started = e.ID, e.Door, e.From, e.Started
	return s, claims
}

func (g *Gate) takeOver(ctx context.Context, s *Session, claims token.Claims) error {
	claims, err := g.stands(ctx, s, claims)
	if token.Reason(err) != "" {
		g.write(s.ID, Reason(err))
	}
	if err != nil {
		return err
	}
	if _, err := g.ledger.Adopt(ctx, s.ID, g.node); err != nil {
		return err
	}
	changes, err := g.concerning(ctx, s, claims.Revision)
	if err == nil && len(changes) > 0 {
		g.write(s.ID, Revoked)
		err = token.ErrRevoked
	}
	if err != nil {
		return err
	}
	return g.open(s)
}

// stands reports whether s would still be let in.
func (g *Gate) stands(ctx context.Context, s *Session, claims token.Claims) (token.Claims, error) {
	if end := s.Grant.Expires; !end.IsZero() && !g.now().Before(end) {
		return claims, token.ErrExpired
	}
	return g.verifier.Recheck(ctx, claims)
}

// Renew replaces the resume ticket of a session, wherever it is held, and returns
// the new one and its expiry. The old one stays good for a short time, since the
// answer may get lost.
func (g *Gate) Renew(ctx context.Context, id, ticket string) (string, time.Time, error) {
	claims, err := g.verifier.Verify(ctx, ticket)
	if err == nil && (claims.Kind != token.KindTicket || claims.Session != id) {
		err = token.ErrUnknown
	}
	var fresh string
	var end time.Time
	if err == nil {
		fresh, end = token.NewTicket(), g.ticketEnd(claims.Until)
		oldHash, _ := token.ParseTicket(ticket) // both are well-formed
		newHash, _ := token.ParseTicket(fresh)
		err = g.ledger.RenewTicket(ctx, id, oldHash, newHash, end)
	}
	if err != nil {
		g.noteRefusal(ctx, claims, access.Request{Resource: claims.Resource}, err)
		return "", time.Time{}, fmt.Errorf("cannot renew ticket: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s, ok := g.sessions[id]; ok {
		s.ticket, s.ticketEnd = fresh, end
	}
	return fresh, end, nil
}

// Forgo voids the ticket of a session that is over, for a client that leaves for good
// but was a moment too late to end it.
func (g *Gate) Forgo(ctx context.Context, id string) error {
	if err := g.ledger.End(ctx, id, Deleted, true, g.now()); err != nil {
		return fmt.Errorf("cannot void the ticket of session %s: %w", id, err)
	}
	return nil
}
