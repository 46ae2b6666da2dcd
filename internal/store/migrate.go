package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// The migrations run on both databases: they use TEXT, BIGINT and SMALLINT only.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables up to date. Of several nodes that start together on one
// PostgreSQL, one does it while the others wait.
func migrate(ctx context.Context, db *database, log *slog.Logger) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	dialect, options := goose.DialectSQLite3, []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if db.remote {
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
		if err != nil {
			return err
		}
		dialect, options = goose.DialectPostgres, append(options, goose.WithSessionLocker(locker))
	}
	// The provider's Close would close our database, so it is left to the collector.
	provider, err := goose.NewProvider(dialect, db.write, files, options...)
	if err != nil {
		return err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("cannot migrate: %w", err)
	}
	for _, r := range results {
		log.Info("migrated database", "migration", r.Source.Path, "took", r.Duration)
	}
	have, known, err := provider.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("cannot migrate: %w", err)
	}
	if have > known {
		return fmt.Errorf("database has version %d, this program knows up to %d: it was made by a newer one", have, known)
	}
	return nil
}
