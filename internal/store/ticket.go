package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// ticketGrace is how long a ticket stays good after its successor was made: an answer
// may get lost, most of all on the bad networks that tickets are for.
const ticketGrace = 30 * time.Second

// Ticket returns what the resume ticket with this hash is good for: the session it
// continues, live or ended, and when it expires, which the caller checks. ErrUnknown
// when there is no such ticket or it is void.
func (s *Store) Ticket(ctx context.Context, hash string) (token.Claims, error) {
	c := token.Claims{Kind: token.KindTicket}
	var actions string
	var started, till, ends int64
	err := s.found(s.db.read.QueryRowContext(ctx, `SELECT s.token_id, s.app, s.key_id, s.subject, s.resource, s.actions,
			s.started, t.till, s.id, s.expires
		FROM ticket t JOIN session s ON s.id = t.session WHERE t.hash = $1`, hash).
		Scan(&c.ID, &c.App, &c.KeyID, &c.Subject, &c.Resource, &actions, &started, &till, &c.Session, &ends))
	if err != nil {
		return token.Claims{}, fmt.Errorf("cannot find ticket: %w", err)
	}
	c.Actions, c.Issued, c.Expires = strings.Fields(actions), moment(started), moment(till)
	c.Until = moment(ends)
	return c, nil
}

// RenewTicket gives a live session the ticket newHash, good until end; oldHash, which
// has to be good, stays so for 30 seconds at most. ErrUnknown when it is not, or when
// the session has ended. The same renewal may be tried again.
func (s *Store) RenewTicket(ctx context.Context, session, oldHash, newHash string, end time.Time) error {
	now := time.Now()
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		var one int
		err := b.tx.QueryRowContext(ctx, `SELECT 1 FROM ticket t JOIN session s ON s.id = t.session
			WHERE t.hash = $1 AND t.session = $2 AND t.till > $3 AND s.ended = 0`, oldHash, session, millis(now)).Scan(&one)
		if err != nil {
			return b.refuse(err, token.ErrUnknown)
		}
		if _, err := affect(ctx, b.tx, `UPDATE ticket SET till = $3 WHERE session = $1 AND hash <> $2 AND till > $3`,
			session, newHash, millis(now.Add(ticketGrace))); err != nil {
			return err
		}
		_, err = affect(ctx, b.tx, `INSERT INTO ticket (hash, session, till) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING`,
			newHash, session, millis(end))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot renew ticket of session %s: %w", session, err)
	}
	return nil
}

func (b *batch) voidTickets(ctx context.Context, session string) error {
	_, err := affect(ctx, b.tx, `DELETE FROM ticket WHERE session = $1`, session)
	return err
}
