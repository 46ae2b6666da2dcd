package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// Admit makes an admission durable, all of it or nothing: the token is spent, or the
// session it replaces has its successor; the session is on the list with its ticket;
// the audit trail says "admitted". Of any number of admissions that spend the same
// token or replace the same session, on any number of nodes, one succeeds; the others
// fail with ErrSpent, and the audit trail says "refused".
//
// The same admission, by its session id, may be tried again: it succeeds again. When
// ctx ends before the answer, it may have happened or not, and Abort settles it.
//
// The revision was read in the same transaction. If it is newer than the one the
// credential was verified at, the caller verifies again.
func (s *Store) Admit(ctx context.Context, a access.Admission) (revision int64, err error) {
	if a.Spends != "" && a.Replaces != "" {
		return 0, errors.New("cannot admit: an admission spends a token or replaces a session, not both")
	}
	w := &work{admit: &a}
	if err := s.submit(ctx, w); err != nil {
		return 0, fmt.Errorf("cannot admit: %w", err)
	}
	return w.revision, nil
}

// claim returns what the admission takes that nobody else can have then, and until
// when that is remembered; empty for a credential that is good many times.
func claim(a *access.Admission) (id string, till time.Time) {
	if a.Replaces != "" {
		// No ticket leads to the replaced session any more; only callers who are
		// between its verification and their admission have to be held off.
		return "session:" + a.Replaces, a.At.Add(time.Hour)
	}
	return a.Spends, a.SpentTill
}

// admit carries out the admissions among works.
func (b *batch) admit(ctx context.Context, works []*work) error {
	held, err := b.spend(ctx, works)
	if err != nil {
		return err
	}
	sessions, tickets := make([]any, 0, sessionWidth*len(works)), make([]any, 0, 3*len(works))
	var resumed []*work
	for _, w := range works {
		a := w.admit
		if a == nil {
			continue
		}
		b.work = w
		if id, _ := claim(a); id != "" && held[id] != a.Session {
			w.refused = token.ErrSpent
			b.note(admissionEvent(a, "refused", "spent"))
			continue
		}
		sessions = appendSession(sessions, a)
		if a.Ticket != "" {
			tickets = append(tickets, a.Ticket, a.Session, millis(a.TicketEnd))
		}
		if a.Replaces != "" {
			resumed = append(resumed, w)
		}
		b.note(admissionEvent(a, "admitted", ""))
	}
	if err := b.insert(ctx, `session (`+sessionColumns+`)`, sessionWidth, sessions); err != nil {
		return err
	}
	if err := b.insert(ctx, `ticket (hash, session, till)`, 3, tickets); err != nil {
		return err
	}
	for _, w := range resumed {
		if err := b.replace(ctx, w); err != nil {
			return err
		}
	}
	return nil
}

// spend inserts the claims of works and returns who holds each one now.
func (b *batch) spend(ctx context.Context, works []*work) (held map[string]string, err error) {
	held = make(map[string]string, len(works))
	var first []*access.Admission
	for _, w := range works {
		if w.admit == nil {
			continue
		}
		if id, _ := claim(w.admit); id != "" && held[id] == "" {
			held[id] = w.admit.Session // the first of the batch stands for its rivals
			first = append(first, w.admit)
		}
	}
	if len(first) == 0 {
		return held, nil
	}
	// In the order of the ids, so that the batches of two nodes cannot each wait for
	// a row of the other.
	slices.SortFunc(first, func(x, y *access.Admission) int {
		a, _ := claim(x)
		b, _ := claim(y)
		return cmp.Compare(a, b)
	})
	rows := make([]any, 0, 3*len(first))
	for _, a := range first {
		id, till := claim(a)
		rows = append(rows, id, a.Session, millis(till))
	}
	won, err := b.claimed(ctx, rows)
	if err != nil {
		return nil, err
	}
	for id := range held {
		if !won[id] {
			held[id] = ""
		}
	}
	return held, nil
}

// claimed inserts claims and returns the ids that belong to their claimant: those that
// are new, and those it had before, by an attempt whose answer was lost.
func (b *batch) claimed(ctx context.Context, rows []any) (map[string]bool, error) {
	result, err := b.tx.QueryContext(ctx, `INSERT INTO spent (id, claimant, till) VALUES `+b.places(len(rows)/3, 3)+`
		ON CONFLICT (id) DO UPDATE SET till = spent.till WHERE spent.claimant = excluded.claimant RETURNING id`, rows...)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	won := make(map[string]bool, len(rows)/3)
	for result.Next() {
		var id string
		if err := result.Scan(&id); err != nil {
			return nil, err
		}
		won[id] = true
	}
	return won, result.Err()
}

// replace ends the session that w continues and hands its tickets on: a client whose
// answer got lost comes back with the old one, and finds the new session by it.
func (b *batch) replace(ctx context.Context, w *work) error {
	a := w.admit
	b.work = w
	if err := b.end(ctx, ending{session: a.Replaces, reason: "resumed", at: a.At, announce: true}); err != nil {
		return err
	}
	_, err := affect(ctx, b.tx, `UPDATE ticket SET session = $2, till = CASE WHEN till < $3 THEN till ELSE $3 END
		WHERE session = $1`, a.Replaces, a.Session, millis(a.At.Add(ticketGrace)))
	return err
}

// Spent reports whether the token of this id was admitted.
func (s *Store) Spent(ctx context.Context, tokenID string) (bool, error) {
	var n int
	err := s.db.read.QueryRowContext(ctx, `SELECT COUNT(*) FROM spent WHERE id = $1`, tokenID).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look for a spent token: %w", s.closedOr(err))
	}
	return n > 0, nil
}

// Abort takes an admission back, as if it had not happened: its token is good again,
// or the ticket of the session it replaced. Nothing happens to an admission that never
// was, or to a session that has ended.
func (s *Store) Abort(ctx context.Context, session, reason string, at time.Time) error {
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		return b.abort(ctx, ending{session: session, reason: reason, kind: "aborted", at: at})
	})
	if err != nil {
		return fmt.Errorf("cannot abort session %s: %w", session, err)
	}
	return nil
}

func (b *batch) abort(ctx context.Context, e ending) error {
	var claim, replaces string
	missing, err := gone(b.tx.QueryRowContext(ctx, `SELECT claim, replaces FROM session WHERE id = $1 AND ended = 0`,
		e.session).Scan(&claim, &replaces))
	if missing || err != nil {
		return err
	}
	if err := b.end(ctx, e); err != nil {
		return err
	}
	if _, err := affect(ctx, b.tx, `DELETE FROM spent WHERE id = $1 AND claimant = $2`, claim, e.session); err != nil {
		return err
	}
	if replaces == "" {
		return b.voidTickets(ctx, e.session)
	}
	_, err = affect(ctx, b.tx, `UPDATE ticket SET session = $2 WHERE session = $1`, e.session, replaces)
	return err
}

const (
	sessionColumns = `id, app, subject, door, actions, resource, source, node, token_id, key_id, claim, replaces,
		started, expires, ended, reason`
	sessionWidth = 16
)

func appendSession(rows []any, a *access.Admission) []any {
	claim, _ := claim(a)
	return append(rows, a.Session, a.Grant.App, clean(a.Grant.Subject), a.Door, words(a.Grant.Actions), clean(a.Grant.Resource),
		clean(a.From), a.Node, a.Grant.TokenID, a.Grant.KeyID, claim, a.Replaces,
		millis(a.At), millis(a.Grant.Expires), 0, "")
}

// words is how actions are kept: with spaces between them.
func words(actions []access.Action) string {
	if len(actions) == 1 {
		return string(actions[0])
	}
	all := make([]string, len(actions))
	for i, a := range actions {
		all[i] = string(a)
	}
	return strings.Join(all, " ")
}

func admissionEvent(a *access.Admission, kind, reason string) access.Event {
	e := access.Event{At: a.At, App: a.Grant.App, Kind: kind, Reason: reason, Door: a.Door, Resource: a.Grant.Resource,
		Subject: a.Grant.Subject, TokenID: a.Grant.TokenID, KeyID: a.Grant.KeyID, Session: a.Session, From: a.From, Node: a.Node}
	if len(a.Grant.Actions) > 0 {
		e.Action = a.Grant.Actions[0]
	}
	return e
}
