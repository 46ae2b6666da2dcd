package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

const deviceColumns = `id, app, secret, client_id, disabled, created`

// AddDevice registers a device with its app: ErrUnknown without that app, ErrExists
// when the id is taken, by any app.
func (s *Store) AddDevice(ctx context.Context, d token.Device) error {
	_, err := s.change(ctx, recordChange(d.App, d.ID, d.Created), func(tx *sql.Tx) error {
		if err := appIsThere(ctx, tx, d.App); err != nil {
			return err
		}
		return must(ctx, tx, ErrExists, `INSERT INTO device (`+deviceColumns+`)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
			d.ID, d.App, s.seal("device:"+d.ID, d.Secret), d.ClientID, flag(d.Disabled), millis(d.Created))
	})
	if err != nil {
		return fmt.Errorf("cannot add device %q: %w", d.ID, err)
	}
	return nil
}

// Device returns the device with its secret, or ErrUnknown.
func (s *Store) Device(ctx context.Context, id string) (token.Device, error) {
	d, err := scanDevice(s.db.read.QueryRowContext(ctx, `SELECT `+deviceColumns+` FROM device WHERE id = $1`, id))
	if err = s.found(err); err == nil {
		d.Secret, err = s.unseal("device:"+d.ID, d.Secret)
	}
	if err != nil {
		return token.Device{}, fmt.Errorf("cannot find device %q: %w", id, err)
	}
	return d, nil
}

// Devices returns up to limit devices (at most and by default 1000) of an app, by id
// from the one that follows after. An empty app means those of all. Their secrets are
// left out: this is for showing.
func (s *Store) Devices(ctx context.Context, app string, after string, limit int) ([]token.Device, error) {
	all, err := list(ctx, s, scanDevice, `SELECT `+deviceColumns+` FROM device
		WHERE `+ofApp(app)+` AND id > $2 ORDER BY id LIMIT $3`, app, after, limited(limit, 1000))
	if err != nil {
		return nil, fmt.Errorf("cannot list devices of app %q: %w", app, err)
	}
	for i := range all {
		all[i].Secret = ""
	}
	return all, nil
}

// DisableDevice shuts a device out, or lets it in again. When it is shut out, the log
// tells every node to end its connection and its sessions.
func (s *Store) DisableDevice(ctx context.Context, id string, disabled bool, at time.Time) error {
	kind := token.ChangeRecord
	if disabled {
		kind = token.ChangeDevice
	}
	err := s.changeDevice(ctx, kind, id, at, `UPDATE device SET disabled = $2 WHERE id = $1`, id, flag(disabled))
	if err != nil {
		return fmt.Errorf("cannot disable device %q: %w", id, err)
	}
	return nil
}

// RemoveDevice forgets a device. The log tells every node to end its connection and
// its sessions.
func (s *Store) RemoveDevice(ctx context.Context, id string, at time.Time) error {
	if err := s.changeDevice(ctx, token.ChangeDevice, id, at, `DELETE FROM device WHERE id = $1`, id); err != nil {
		return fmt.Errorf("cannot remove device %q: %w", id, err)
	}
	return nil
}

// ReleaseDevice forgets the physical identity, so that the next start binds its own.
func (s *Store) ReleaseDevice(ctx context.Context, id string) error {
	err := s.changeDevice(ctx, token.ChangeRecord, id, time.Now(), `UPDATE device SET client_id = '' WHERE id = $1`, id)
	if err != nil {
		return fmt.Errorf("cannot release device %q: %w", id, err)
	}
	return nil
}

func (s *Store) changeDevice(ctx context.Context, kind token.ChangeKind, id string, at time.Time, query string, args ...any) error {
	d, err := s.Device(ctx, id)
	if err != nil {
		return err
	}
	_, err = s.change(ctx, token.Change{Kind: kind, App: d.App, ID: id, At: at}, func(tx *sql.Tx) error {
		return must(ctx, tx, token.ErrUnknown, query, args...)
	})
	return err
}

// BindDevice ties the device to the physical identity it starts with, unless it is
// tied to one already, and returns the identity that holds. The change log does not
// mention it: this answer, not a cached record, says which identity is bound.
func (s *Store) BindDevice(ctx context.Context, id, clientID string) (bound string, err error) {
	d, err := s.Device(ctx, id)
	if err != nil {
		return "", fmt.Errorf("cannot bind device: %w", err)
	}
	if d.ClientID != "" {
		return d.ClientID, nil
	}
	var holds string
	err = s.step(ctx, func(ctx context.Context, b *batch) error {
		if _, err := affect(ctx, b.tx, `UPDATE device SET client_id = $2 WHERE id = $1 AND client_id = ''`,
			id, clientID); err != nil {
			return err
		}
		err := b.tx.QueryRowContext(ctx, `SELECT client_id FROM device WHERE id = $1`, id).Scan(&holds)
		return b.refuse(err, token.ErrUnknown)
	})
	if err != nil {
		return "", fmt.Errorf("cannot bind device %q: %w", id, err)
	}
	return holds, nil
}

// scanDevice leaves the secret encrypted.
func scanDevice(row scanner) (d token.Device, err error) {
	var created int64
	err = row.Scan(&d.ID, &d.App, &d.Secret, &d.ClientID, &d.Disabled, &created)
	d.Created = moment(created)
	return d, err
}
