package store

import "context"

// Setting returns a setting of the connection that writes, for tests.
func (s *Store) Setting(ctx context.Context, query string) (value string, err error) {
	err = s.db.write.QueryRowContext(ctx, query).Scan(&value)
	return value, err
}
