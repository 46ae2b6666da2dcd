// Package store keeps what must survive: the records (apps, keys, devices, rules),
// the tokens that are spent, the sessions and the audit trail. It runs one SQL text
// on SQLite, embedded, and on PostgreSQL, for several nodes.
//
// Records are written one transaction each, and every change that verification
// depends on takes a number in the change log, which all nodes follow (change.go).
// What happens at the door, thousands of times a second, goes through one queue into
// group commits (batch.go): one sync of the disk for up to 256 callers. Whatever the
// store acknowledges is on disk; it refuses a PostgreSQL that would not keep that.
//
// Secrets are encrypted with the master key before they reach SQL (secret.go).
// Times are kept in milliseconds; the zero time is 0.
package store

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// Errors that callers act on, beside those of package token. Compare with errors.Is.
var (
	ErrExists    = errors.New("a record of this name is already there")
	ErrClosed    = errors.New("store is closed")
	ErrInUse     = errors.New("data directory is in use by another process")
	ErrMasterKey = errors.New("master key is not the one this database was made with")
	ErrGap       = errors.New("change log does not reach back that far")
)

// Config says where the store is.
type Config struct {
	DSN       string       // "postgres://..."; empty: SQLite, in the file turnpike.db of Dir
	Dir       string       // the data directory, made if it is missing; only SQLite needs it
	MasterKey [32]byte     // encrypts the secrets, see LoadMasterKey
	MaxBatch  int          // most callers in one group commit; 0 means 256
	Changed   func()       // called after this Store wrote to the change log; must not wait; nil: nobody
	Log       *slog.Logger // nil: discarded
}

// Store is an open database. All its methods may be called at the same time, and
// their errors wrap the sentinels of this package and of package token.
type Store struct {
	log      *slog.Logger
	changed  func() // Config.Changed
	db       *database
	aead     cipher.AEAD
	maxBatch int
	audit    atomic.Int64 // the last audit number handed out
	origin   string       // tells the audit ids of this Store from those of other nodes
	failing  bool         // the last group commit failed; the batcher's own

	mu     sync.RWMutex // guards closed; held for reading by whoever sends to queue or writes
	closed bool
	queue  chan *work
	idle   chan struct{} // closed when the batcher has returned
}

// database is what the two dialects have to provide.
type database struct {
	remote  bool             // PostgreSQL: the connection can be lost, other nodes write too
	write   *sql.DB          // every transaction that changes something
	read    *sql.DB          // everything else; may be the same
	passing func(error) bool // may the same transaction well succeed a moment later?
	close   func() error
}

// Open opens the database, creates or migrates its tables, and starts the batcher,
// which Close stops. With SQLite it fails with ErrInUse while another process has the
// directory; with PostgreSQL it fails when the server runs with fsync=off.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = 256
	}
	db, err := connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("cannot open store: %w", err)
	}
	s := &Store{log: c.Log, changed: c.Changed, db: db, maxBatch: c.MaxBatch, origin: rand.Text()[:8],
		queue: make(chan *work, 4*c.MaxBatch), idle: make(chan struct{})}
	s.audit.Store(time.Now().UnixNano()) // ids grow across restarts too
	if err := s.prepare(ctx, c.MasterKey); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open store: %w", err), db.close())
	}
	go s.runBatches()
	return s, nil
}

func connect(ctx context.Context, c Config) (*database, error) {
	switch {
	case c.DSN == "":
		return openSQLite(c.Dir)
	case strings.HasPrefix(c.DSN, "postgres://"), strings.HasPrefix(c.DSN, "postgresql://"):
		return openPostgres(ctx, c.DSN)
	}
	return nil, errors.New("database address must begin with postgres:// or be empty for SQLite")
}

func (s *Store) prepare(ctx context.Context, master [32]byte) error {
	if err := migrate(ctx, s.db, s.log); err != nil {
		return err
	}
	aead, err := newAEAD(master)
	if err != nil {
		return err
	}
	s.aead = aead
	if err := s.checkMasterKey(ctx); err != nil {
		return err
	}
	if !s.db.remote {
		return s.forgetPresence(ctx)
	}
	return nil
}

// Close writes out what is queued and closes the database. Calls that come later
// fail with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.queue)
	s.mu.Unlock()
	<-s.idle
	return s.db.close()
}

// Ping reports whether the database answers, for a readiness check.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.db.read.PingContext(ctx); err != nil {
		return fmt.Errorf("cannot reach database: %w", err)
	}
	return nil
}

// attempts bounds how often a transaction is tried when its failure is a passing one.
const attempts = 4

// pause waits before the n-th further attempt: 10, 40, 160 ms.
func pause(ctx context.Context, n int) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Millisecond << (2 * n)):
		return nil
	}
}

// change runs f in a transaction of its own and logs c in it. The revision is taken
// first, which makes all writers of records queue up behind one row: revisions become
// visible in their order, and two writers never deadlock. It returns c as logged.
func (s *Store) change(ctx context.Context, c token.Change, f func(*sql.Tx) error) (token.Change, error) {
	c, err := s.writeChange(ctx, c, f)
	if err == nil {
		s.notify()
	}
	return c, err
}

func (s *Store) notify() {
	if s.changed != nil {
		s.changed()
	}
}

func (s *Store) writeChange(ctx context.Context, c token.Change, f func(*sql.Tx) error) (_ token.Change, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return c, ErrClosed
	}
	for n := range attempts {
		var ambiguous bool
		c.Revision, ambiguous, err = s.tryChange(ctx, c, f)
		// After a lost COMMIT nobody knows whether it happened, and a record that
		// is written twice would report ErrExists: the caller has to look.
		if err == nil || ambiguous || !s.db.passing(err) || n == attempts-1 {
			break
		}
		if perr := pause(ctx, n); perr != nil {
			return c, perr
		}
	}
	return c, err
}

func (s *Store) tryChange(ctx context.Context, c token.Change, f func(*sql.Tx) error) (int64, bool, error) {
	tx, err := s.db.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, false, err
	}
	defer tx.Rollback()
	revision, err := bump(ctx, tx)
	if err != nil {
		return 0, false, err
	}
	if err := f(tx); err != nil {
		return 0, false, err
	}
	c.Revision = revision
	if err := logChange(ctx, tx, c); err != nil {
		return 0, false, err
	}
	if err := tx.Commit(); err != nil {
		return 0, s.db.remote, fmt.Errorf("cannot tell whether the change was kept: %w", err)
	}
	return revision, false, nil
}

// closedOr returns ErrClosed for an error of a read that ran into Close.
func (s *Store) closedOr(err error) error {
	if s.closing() {
		return ErrClosed
	}
	return err
}

func (s *Store) closing() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

// found makes the error of a query for one row fit for callers: no row is ErrUnknown.
func (s *Store) found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return token.ErrUnknown
	}
	if err != nil {
		return s.closedOr(err)
	}
	return nil
}

// list reads all rows of a query, each by scan.
func list[T any](ctx context.Context, s *Store, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := s.db.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.closedOr(err)
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

// execer is a *sql.DB or *sql.Tx.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// affect runs a statement and reports how many rows it touched.
func affect(ctx context.Context, on execer, query string, args ...any) (int64, error) {
	result, err := on.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// must is affect for a statement that is to touch a row; missing is the error otherwise.
func must(ctx context.Context, on execer, missing error, query string, args ...any) error {
	n, err := affect(ctx, on, query, args...)
	if err == nil && n == 0 {
		return missing
	}
	return err
}

// ofApp is the condition for what belongs to the app $1, or to any if it is empty, in a
// form that lets the database use its index.
func ofApp(app string) string {
	if app == "" {
		return `$1 = ''`
	}
	return `app = $1`
}

// limited keeps the length of a list within bounds: 1 to most, most when limit is 0.
func limited(limit, most int) int {
	if limit <= 0 || limit > most {
		return most
	}
	return limit
}

// millis is how a time is kept.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment is the time that millis kept.
func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// flag is how a bool is kept.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// clean makes text of outside origin acceptable to both databases: PostgreSQL refuses
// NUL and what is not UTF-8, and one such text must not cost an audit event.
func clean(text string) string {
	const most = 512 // bytes: what strangers say must not fill the disk
	if len(text) > most {
		text = text[:most]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
