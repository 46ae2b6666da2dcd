package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresConns bounds the connections of one node: a handful do all the work, since
// the busiest path needs one. The server's default allows 100 in all.
const postgresConns = 16

// openPostgres connects to the server that takes the writes. What it acknowledged
// survives its crash; a failover to a standby keeps it only if replication is
// synchronous, which is for the operator to set up and cannot be seen from here.
func openPostgres(ctx context.Context, dsn string) (*database, error) {
	c, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err // pgx leaves the password out of it
	}
	// Unnamed statements: the batches have many different texts, and nothing has to be
	// kept on the server, so a connection pooler in between does no harm.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "turnpike"
	}
	db := stdlib.OpenDB(*c, stdlib.OptionAfterConnect(demandDurability))
	db.SetMaxOpenConns(postgresConns)
	db.SetMaxIdleConns(postgresConns)
	db.SetConnMaxIdleTime(5 * time.Minute)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{remote: true, write: db, read: db, passing: passingPostgres, close: db.Close}, nil
}

// demandDurability runs on every new connection, since after a failover it may be
// another server. A setting stronger than "on" is left alone.
func demandDurability(ctx context.Context, c *pgx.Conn) error {
	var fsync, commit string
	err := c.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('synchronous_commit')").Scan(&fsync, &commit)
	if err != nil {
		return err
	}
	if fsync != "on" {
		return errors.New("PostgreSQL runs with fsync=off: a power cut would make spent tokens good again")
	}
	if commit == "on" || commit == "remote_apply" {
		return nil
	}
	_, err = c.Exec(ctx, "SET synchronous_commit TO on")
	return err
}

// passingPostgres reports whether the same transaction may well succeed a moment
// later: the server says so, or the connection to it was lost.
func passingPostgres(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		// Classes of PostgreSQL's appendix A: 08 connection, 40 rollback
		// (serialisation, deadlock), 53 out of resources, 57 operator intervention, 58 system.
		switch fmt.Sprintf("%.2s", e.Code) {
		case "08", "40", "53", "57", "58":
			return true
		}
		return false
	}
	var n net.Error
	return errors.As(err, &n) || pgconn.SafeToRetry(err) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrBadConn)
}
