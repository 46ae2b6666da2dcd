package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// How long things are kept when nothing shorter is said.
const (
	keepSessions = 30 * 24 * time.Hour // after their end
	keepAudit    = 90 * 24 * time.Hour
	keepChanges  = 30 * 24 * time.Hour
	keepNodes    = 30 * 24 * time.Hour // after they were last heard of
)

// purgeChunk bounds the rows of one statement, so that nobody waits long for the
// writer while old rows go.
const purgeChunk = 1000

// Purge forgets what has become useless by now: spent ids, revocations and tickets past
// their time, sessions 30 days after their end, audit events after 90 days, changes
// after 30. Sessions of nodes that were not heard of for the Lease end as "lost", and
// every node hears of it. Any number of nodes may purge at the same time.
func (s *Store) Purge(ctx context.Context, now time.Time) error {
	if err := s.endLost(ctx, now); err != nil {
		return fmt.Errorf("cannot end lost sessions: %w", err)
	}
	for _, old := range []struct {
		table, key, where string
		before            time.Time
	}{
		{"spent", "id", "till < $1", now},
		{"ticket", "hash", "till < $1", now},
		{"session", "id", "ended > 0 AND ended < $1", now.Add(-keepSessions)},
		{"audit", "id", "at < $1", now.Add(-keepAudit)},
		{"change", "revision", "at < $1 AND revision < (SELECT n FROM revision WHERE id = 1)", now.Add(-keepChanges)},
		{"node", "id", "seen < $1", now.Add(-keepNodes)},
	} {
		if err := s.forget(ctx, old.table, old.key, old.where, old.before); err != nil {
			return fmt.Errorf("cannot purge %s: %w", old.table, err)
		}
	}
	_, err := affect(ctx, s.db.write, `DELETE FROM revocation WHERE until < $1`, millis(now))
	if err != nil {
		return fmt.Errorf("cannot purge revocations: %w", err)
	}
	return nil
}

func (s *Store) forget(ctx context.Context, table, key, where string, before time.Time) error {
	query := fmt.Sprintf(`DELETE FROM %[1]s WHERE %[2]s IN (SELECT %[2]s FROM %[1]s WHERE %[3]s LIMIT %[4]d)`,
		table, key, where, purgeChunk)
	for {
		n, err := affect(ctx, s.db.write, query, millis(before))
		if err != nil {
			return s.closedOr(err)
		}
		if n < purgeChunk {
			return nil
		}
	}
}

// endLost ends the live sessions of silent nodes. Should such a node come back, it
// hears from the log that they are over.
func (s *Store) endLost(ctx context.Context, now time.Time) error {
	for {
		lost, err := list(ctx, s, scanEntry, `SELECT `+entryColumns+` FROM session
			WHERE ended = 0 AND started < $1 AND node NOT IN (SELECT id FROM node WHERE seen >= $1)
			ORDER BY started LIMIT $2`, millis(now.Add(-Lease)), purgeChunk)
		if err != nil || len(lost) == 0 {
			return err
		}
		for chunk := range slices.Chunk(lost, s.maxBatch) {
			err := s.step(ctx, func(ctx context.Context, b *batch) error {
				for _, entry := range chunk {
					if err := b.end(ctx, ending{session: entry.ID, reason: "lost", at: now, announce: true}); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
}
