package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

const keyColumns = `id, app, secret, created, retires, revoked`

// AddKey adds a key to its app: ErrUnknown without that app, ErrExists when the access
// id is taken, by any app.
func (s *Store) AddKey(ctx context.Context, k token.Key) error {
	_, err := s.change(ctx, recordChange(k.App, k.ID, k.Created), func(tx *sql.Tx) error {
		if err := appIsThere(ctx, tx, k.App); err != nil {
			return err
		}
		return must(ctx, tx, ErrExists, `INSERT INTO app_key (`+keyColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
			k.ID, k.App, s.seal("key:"+k.ID, k.Secret), millis(k.Created), millis(k.Retires), flag(k.Revoked))
	})
	if err != nil {
		return fmt.Errorf("cannot add key %q: %w", k.ID, err)
	}
	return nil
}

// Key returns the key with its secret, whether or not it is still active, or ErrUnknown.
func (s *Store) Key(ctx context.Context, id string) (token.Key, error) {
	k, err := s.scanKey(s.db.read.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM app_key WHERE id = $1`, id))
	if err = s.found(err); err != nil {
		return k, fmt.Errorf("cannot find key %q: %w", id, err)
	}
	return k, nil
}

// Keys returns an app's keys with their secrets, the newest first. An empty app means
// those of all.
func (s *Store) Keys(ctx context.Context, app string) ([]token.Key, error) {
	all, err := list(ctx, s, s.scanKey, `SELECT `+keyColumns+` FROM app_key
		WHERE `+ofApp(app)+` ORDER BY app, created DESC, id`, app)
	if err != nil {
		return nil, fmt.Errorf("cannot list keys of app %q: %w", app, err)
	}
	return all, nil
}

// RetireKey sets the moment from which the key neither signs nor verifies. Sessions it
// opened go on.
func (s *Store) RetireKey(ctx context.Context, id string, at time.Time) error {
	if err := s.setKey(ctx, token.ChangeRecord, id, time.Now(), `retires = $2`, millis(at)); err != nil {
		return fmt.Errorf("cannot retire key %q: %w", id, err)
	}
	return nil
}

// RevokeKey makes the key void, for good. The log tells every node to end the sessions
// it opened.
func (s *Store) RevokeKey(ctx context.Context, id string, at time.Time) error {
	if err := s.setKey(ctx, token.ChangeKey, id, at, `revoked = $2`, 1); err != nil {
		return fmt.Errorf("cannot revoke key %q: %w", id, err)
	}
	return nil
}

func (s *Store) setKey(ctx context.Context, kind token.ChangeKind, id string, at time.Time, set string, value any) error {
	k, err := s.Key(ctx, id)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, token.Change{Kind: kind, App: k.App, ID: id, At: at}, func(tx *sql.Tx) error {
		return must(ctx, tx, token.ErrUnknown, `UPDATE app_key SET `+set+` WHERE id = $1`, id, value)
	})
	return err
}

func (s *Store) scanKey(row scanner) (k token.Key, err error) {
	var created, retires int64
	if err := row.Scan(&k.ID, &k.App, &k.Secret, &created, &retires, &k.Revoked); err != nil {
		return token.Key{}, err
	}
	k.Created, k.Retires = moment(created), moment(retires)
	k.Secret, err = s.unseal("key:"+k.ID, k.Secret)
	return k, err
}
