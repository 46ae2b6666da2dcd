package store

import (
	"context"
	"fmt"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

const (
	auditColumns = `at, app, kind, reason, door, action, resource, subject, token_id, key_id, session, source, node, actor`
	auditWidth   = 15 // with the id
)

// Note adds a line to the audit trail. It returns when the line is queued; the line is
// on disk one or two group commits later, and at the latest when Close returns. While
// the queue is full it waits, until ctx ends: no event is dropped.
func (s *Store) Note(ctx context.Context, e access.Event) error {
	if err := s.enqueue(ctx, &work{ctx: ctx, event: &e}); err != nil {
		return fmt.Errorf("cannot note audit event: %w", err)
	}
	return nil
}

// note adds an event to the batch. Its id belongs to the work it stems from, so that a
// transaction that is tried again does not write it twice; ids grow with time.
func (b *batch) note(e access.Event) {
	id := fmt.Sprintf("%016x-%03x-%s", b.work.audit, b.work.noted, b.origin)
	b.work.noted++
	b.events = append(b.events, id, millis(e.At), clean(e.App), clean(e.Kind), clean(e.Reason), clean(e.Door),
		clean(string(e.Action)), clean(e.Resource), clean(e.Subject), clean(e.TokenID), clean(e.KeyID), clean(e.Session),
		clean(e.From), clean(e.Node), clean(e.Actor))
}

func (b *batch) writeEvents(ctx context.Context) error {
	return b.insert(ctx, `audit (id, `+auditColumns+`)`, auditWidth, b.events)
}

// Events returns up to limit lines (at most and by default 1000) of an app's audit
// trail, the latest first, beginning behind the line with the id before; empty means
// with the last one. An empty app means those of all, and those of none.
func (s *Store) Events(ctx context.Context, app, before string, limit int) ([]access.Event, error) {
	at, id := int64(1<<63-1), ""
	if before != "" {
		err := s.db.read.QueryRowContext(ctx, `SELECT at, id FROM audit WHERE id = $1`, before).Scan(&at, &id)
		if err := s.found(err); err != nil {
			return nil, fmt.Errorf("cannot find audit event %q: %w", before, err)
		}
	}
	all, err := list(ctx, s, scanEvent, `SELECT id, `+auditColumns+` FROM audit
		WHERE `+ofApp(app)+` AND (at < $2 OR at = $2 AND id < $3) ORDER BY at DESC, id DESC LIMIT $4`,
		app, at, id, limited(limit, 1000))
	if err != nil {
		return nil, fmt.Errorf("cannot list audit events of app %q: %w", app, err)
	}
	return all, nil
}

func scanEvent(row scanner) (e access.Event, err error) {
	var at int64
	var action string
	err = row.Scan(&e.ID, &at, &e.App, &e.Kind, &e.Reason, &e.Door, &action, &e.Resource, &e.Subject, &e.TokenID, &e.KeyID,
		&e.Session, &e.From, &e.Node, &e.Actor)
	e.At, e.Action = moment(at), access.Action(action)
	return e, err
}
