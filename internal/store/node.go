package store

import (
	"context"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// Heartbeat says that a node lives. It is due several times per Silence.
func (s *Store) Heartbeat(ctx context.Context, node string, at time.Time) error {
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		_, err := affect(ctx, b.tx, `INSERT INTO node (id, seen) VALUES ($1, $2)
			ON CONFLICT (id) DO UPDATE SET seen = excluded.seen`, node, millis(at))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot note heartbeat of node %q: %w", node, err)
	}
	return nil
}

// Online puts down where a device is connected and returns the epoch of this start,
// which is higher than that of any start before: of two connections that both believe
// they hold the device, the higher one is right. The Epoch of p does not matter.
func (s *Store) Online(ctx context.Context, p access.Presence) (int64, error) {
	var epoch int64
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		return b.tx.QueryRowContext(ctx, `INSERT INTO presence (device, node, epoch, client_id, since, source, version)
			VALUES ($1, $2, 1, $3, $4, $5, $6)
			ON CONFLICT (device) DO UPDATE SET node = excluded.node, epoch = presence.epoch + 1,
				client_id = excluded.client_id, since = excluded.since, source = excluded.source, version = excluded.version
			RETURNING epoch`,
			p.DeviceID, p.Node, clean(p.ClientID), millis(p.Since), clean(p.From), clean(p.Version)).Scan(&epoch)
	})
	if err != nil {
		return 0, fmt.Errorf("cannot put device %q online: %w", p.DeviceID, err)
	}
	return epoch, nil
}

// Offline says that the connection of this epoch is gone. It does nothing when the
// device has started again since.
func (s *Store) Offline(ctx context.Context, deviceID string, epoch int64) error {
	err := s.step(ctx, func(ctx context.Context, b *batch) error {
		_, err := affect(ctx, b.tx, `UPDATE presence SET node = '' WHERE device = $1 AND epoch = $2`, deviceID, epoch)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot put device %q offline: %w", deviceID, err)
	}
	return nil
}

// forgetPresence puts every device offline. Only a process that has the database to
// itself may do so, when it starts: whatever held the devices before has ended.
func (s *Store) forgetPresence(ctx context.Context) error {
	_, err := affect(ctx, s.db.write, `UPDATE presence SET node = '' WHERE node <> ''`)
	return err
}

// Presence returns where a device is connected, or ErrUnknown when it is not, or when
// its node has been silent.
func (s *Store) Presence(ctx context.Context, deviceID string) (access.Presence, error) {
	p := access.Presence{DeviceID: deviceID}
	var since int64
	err := s.found(s.db.read.QueryRowContext(ctx, `SELECT node, epoch, client_id, since, source, version FROM presence
		WHERE device = $1 AND node <> '' AND (since >= $2 OR node IN (SELECT id FROM node WHERE seen >= $2))`,
		deviceID, millis(time.Now().Add(-Silence))).Scan(&p.Node, &p.Epoch, &p.ClientID, &since, &p.From, &p.Version))
	if err != nil {
		return access.Presence{}, fmt.Errorf("cannot find device %q online: %w", deviceID, err)
	}
	p.Since = moment(since)
	return p, nil
}
