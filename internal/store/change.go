package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// recordChange says that a record changed and nobody has to leave.
func recordChange(app, id string, at time.Time) token.Change {
	return token.Change{Kind: token.ChangeRecord, App: app, ID: id, At: at}
}

// bump takes the next revision. Its row stays locked until the transaction ends, so
// whoever reads revision n has also seen n-1: the log never has a gap that fills later.
func bump(ctx context.Context, tx *sql.Tx) (n int64, err error) {
	err = tx.QueryRowContext(ctx, `UPDATE revision SET n = n + 1 WHERE id = 1 RETURNING n`).Scan(&n)
	return n, err
}

func logChange(ctx context.Context, tx *sql.Tx, c token.Change) error {
	_, err := affect(ctx, tx, `INSERT INTO change (revision, kind, app, id, at) VALUES ($1, $2, $3, $4, $5)`,
		c.Revision, string(c.Kind), c.App, c.ID, millis(c.At))
	return err
}

// Revision returns the number of the latest change, 0 in a new store.
func (s *Store) Revision(ctx context.Context) (n int64, err error) {
	if err := s.db.read.QueryRowContext(ctx, `SELECT n FROM revision WHERE id = 1`).Scan(&n); err != nil {
		return 0, fmt.Errorf("cannot read revision: %w", s.closedOr(err))
	}
	return n, nil
}

// Changes returns up to limit changes (at most and by default 1000) that follow the
// revision after, in their order and without a gap. It fails with ErrGap when Purge
// has forgotten the first of them: the reader then has to start afresh.
func (s *Store) Changes(ctx context.Context, after int64, limit int) ([]token.Change, error) {
	all, err := list(ctx, s, scanChange, `SELECT revision, kind, app, id, at FROM change
		WHERE revision > $1 ORDER BY revision LIMIT $2`, after, limited(limit, 1000))
	if err == nil && len(all) > 0 && all[0].Revision != after+1 {
		err = ErrGap
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read changes after %d: %w", after, err)
	}
	return all, nil
}

// Revoke voids a token or all tokens that a subject has so far, until the time when
// none of them could be used any more, or ends a session (until does not matter then).
// Every node hears of it through the log. It returns c with its revision.
func (s *Store) Revoke(ctx context.Context, c token.Change, until time.Time) (token.Change, error) {
	var kept bool
	switch c.Kind {
	case token.ChangeToken, token.ChangeSubject:
		kept = true
	case token.ChangeSession:
	default:
		return c, fmt.Errorf("cannot revoke %q: only tokens, subjects and sessions", c.Kind)
	}
	c, err := s.change(ctx, c, func(tx *sql.Tx) error {
		if !kept {
			return nil
		}
		// Revoked twice, the later moment counts. The revision is the one that change took.
		_, err := affect(ctx, tx, `INSERT INTO revocation (kind, app, id, at, until, revision)
			VALUES ($1, $2, $3, $4, $5, (SELECT n FROM revision WHERE id = 1))
			ON CONFLICT (kind, app, id) DO UPDATE SET
				at = CASE WHEN excluded.at > revocation.at THEN excluded.at ELSE revocation.at END,
				until = CASE WHEN excluded.until > revocation.until THEN excluded.until ELSE revocation.until END,
				revision = excluded.revision`,
			string(c.Kind), c.App, c.ID, millis(c.At), millis(until))
		return err
	})
	if err != nil {
		return c, fmt.Errorf("cannot revoke %s: %w", c.Kind, err)
	}
	return c, nil
}

// Revocations returns the revoked tokens and subjects that still matter at now, in the
// order of the log, for a node that starts. Read the revision first and follow the
// log from there: what is in both is only heard twice.
func (s *Store) Revocations(ctx context.Context, now time.Time) ([]token.Change, error) {
	all, err := list(ctx, s, scanChange, `SELECT revision, kind, app, id, at FROM revocation
		WHERE until > $1 ORDER BY revision`, millis(now))
	if err != nil {
		return nil, fmt.Errorf("cannot list revocations: %w", err)
	}
	return all, nil
}

func scanChange(row scanner) (c token.Change, err error) {
	var kind string
	var at int64
	err = row.Scan(&c.Revision, &kind, &c.App, &c.ID, &at)
	c.Kind, c.At = token.ChangeKind(kind), moment(at)
	return c, err
}
