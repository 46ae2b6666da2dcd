package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// Lease is how long a node may be silent before its sessions count as lost, and Silence
// before its devices do: they come back to another node within seconds.
const (
	Lease   = 5 * time.Minute
	Silence = 30 * time.Second
)

const entryColumns = `id, app, subject, door, actions, resource, source, node, token_id, key_id, started, expires, ended, reason`

// ending is how a session ends.
type ending struct {
	session  string
	reason   string
	kind     string // of the audit event; empty: "ended"
	at       time.Time
	void     bool // its tickets are void
	announce bool // tell every node, by the change log
}

// End takes a session off the list, once: a second End changes nothing. With voidTicket
// its resume tickets are void, even if it had ended before.
func (s *Store) End(ctx context.Context, session, reason string, voidTicket bool, at time.Time) error {
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		return b.end(ctx, ending{session: session, reason: reason, at: at, void: voidTicket})
	})
	if err != nil {
		return fmt.Errorf("cannot end session %s: %w", session, err)
	}
	return nil
}

func (b *batch) end(ctx context.Context, e ending) error {
	if e.void {
		if err := b.voidTickets(ctx, e.session); err != nil {
			return err
		}
	}
	entry, err := scanEntry(b.tx.QueryRowContext(ctx, `UPDATE session SET ended = $2, reason = $3
		WHERE id = $1 AND ended = 0 RETURNING `+entryColumns, e.session, millis(e.at), e.reason))
	if missing, err := gone(err); missing || err != nil {
		return err
	}
	b.note(endEvent(entry, e))
	if !e.announce {
		return nil
	}
	return b.announce(ctx, token.Change{Kind: token.ChangeSession, App: entry.App, ID: e.session, At: e.at})
}

func endEvent(entry access.Entry, e ending) access.Event {
	event := access.Event{At: e.at, App: entry.App, Kind: e.kind, Reason: e.reason, Door: entry.Door, Resource: entry.Target,
		Subject: entry.Subject, TokenID: entry.TokenID, KeyID: entry.KeyID, Session: entry.ID, From: entry.From, Node: entry.Node}
	if event.Kind == "" {
		event.Kind = "ended"
	}
	if len(entry.Actions) > 0 {
		event.Action = entry.Actions[0]
	}
	return event
}

// Session returns a session, live or ended, or ErrUnknown.
func (s *Store) Session(ctx context.Context, id string) (access.Entry, error) {
	entry, err := scanEntry(s.db.read.QueryRowContext(ctx, `SELECT `+entryColumns+` FROM session WHERE id = $1`, id))
	if err = s.found(err); err != nil {
		return access.Entry{}, fmt.Errorf("cannot find session %s: %w", id, err)
	}
	return entry, nil
}

// Sessions returns up to limit sessions (at most and by default 1000) of an app, the
// newest first; an empty app means those of all. Without all, only live ones: those
// that have not ended and whose node was heard of within the Lease.
func (s *Store) Sessions(ctx context.Context, app string, all bool, limit int) ([]access.Entry, error) {
	which := `started >= $2`
	since := int64(0)
	if !all {
		which = `ended = 0 AND (started >= $2 OR node IN (SELECT id FROM node WHERE seen >= $2))`
		since = millis(time.Now().Add(-Lease))
	}
	entries, err := list(ctx, s, scanEntry, `SELECT `+entryColumns+` FROM session WHERE `+ofApp(app)+` AND `+which+`
		ORDER BY started DESC, id LIMIT $3`, app, since, limited(limit, 1000))
	if err != nil {
		return nil, fmt.Errorf("cannot list sessions of app %q: %w", app, err)
	}
	return entries, nil
}

// Adopt puts a live session into the hands of a node, after a restart or when its
// device has moved, and returns it. ErrUnknown when there is no such session or it has
// ended.
func (s *Store) Adopt(ctx context.Context, id, node string) (access.Entry, error) {
	var entry access.Entry
	err := s.step(ctx, func(ctx context.Context, b *batch) (err error) {
		entry, err = scanEntry(b.tx.QueryRowContext(ctx, `UPDATE session SET node = $2 WHERE id = $1 AND ended = 0
			RETURNING `+entryColumns, id, node))
		return b.refuse(err, token.ErrUnknown)
	})
	if err != nil {
		return access.Entry{}, fmt.Errorf("cannot adopt session %s: %w", id, err)
	}
	return entry, nil
}

func scanEntry(row scanner) (e access.Entry, err error) {
	var actions string
	var started, expires, ended int64
	err = row.Scan(&e.ID, &e.App, &e.Subject, &e.Door, &actions, &e.Target, &e.From, &e.Node, &e.TokenID, &e.KeyID,
		&started, &expires, &ended, &e.Reason)
	for _, a := range strings.Fields(actions) {
		e.Actions = append(e.Actions, access.Action(a))
	}
	e.Started, e.Expires, e.Ended = moment(started), moment(expires), moment(ended)
	return e, err
}
