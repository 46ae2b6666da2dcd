package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// AddRule adds a line to an app's table: ErrUnknown without the app, ErrExists when
// the line is there.
func (s *Store) AddRule(ctx context.Context, r access.Rule) error {
	_, err := s.change(ctx, recordChange(r.App, r.Subject, r.Created), func(tx *sql.Tx) error {
		if err := appIsThere(ctx, tx, r.App); err != nil {
			return err
		}
		return must(ctx, tx, ErrExists, `INSERT INTO rule (app, subject, action, resource, created)
			VALUES ($1, $2, $3, $4, $5) ON CONFLICT (app, subject, action, resource) DO NOTHING`,
			r.App, r.Subject, string(r.Action), r.Resource, millis(r.Created))
	})
	if err != nil {
		return fmt.Errorf("cannot add rule: %w", err)
	}
	return nil
}

// RemoveRule removes the line with this app, subject, action and resource, or fails
// with ErrUnknown. Whoever came in by it stays.
func (s *Store) RemoveRule(ctx context.Context, r access.Rule) error {
	_, err := s.change(ctx, recordChange(r.App, r.Subject, time.Now()), func(tx *sql.Tx) error {
		return must(ctx, tx, token.ErrUnknown, `DELETE FROM rule
			WHERE app = $1 AND subject = $2 AND action = $3 AND resource = $4`,
			r.App, r.Subject, string(r.Action), r.Resource)
	})
	if err != nil {
		return fmt.Errorf("cannot remove rule: %w", err)
	}
	return nil
}

// Rules returns an app's rules in a stable order. An empty app means those of all.
func (s *Store) Rules(ctx context.Context, app string) ([]access.Rule, error) {
	all, err := list(ctx, s, scanRule, `SELECT app, subject, action, resource, created FROM rule
		WHERE `+ofApp(app)+` ORDER BY app, subject, action, resource`, app)
	if err != nil {
		return nil, fmt.Errorf("cannot list rules of app %q: %w", app, err)
	}
	return all, nil
}

func scanRule(row scanner) (r access.Rule, err error) {
	var action string
	var created int64
	err = row.Scan(&r.App, &r.Subject, &action, &r.Resource, &created)
	r.Action, r.Created = access.Action(action), moment(created)
	return r, err
}
