package store

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// openSQLite opens turnpike.db in dir with one connection that writes and a few that
// read. SQLite lets one writer in at a time; queueing for the one connection is fair
// and cheap, while a pool of writers would fight over the file lock.
func openSQLite(dir string) (*database, error) {
	if dir == "" {
		return nil, errors.New("no data directory given")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "turnpike.db")
	write, read, err := openFile(file)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &database{write: write, read: read, passing: passingSQLite, close: func() error {
		return errors.Join(read.Close(), write.Close(), lock.Close())
	}}, nil
}

func openFile(file string) (write, read *sql.DB, err error) {
	// SQLite would make the file readable for everyone; -wal and -shm inherit its mode.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	if write, err = sql.Open("sqlite", sqliteDSN(file,
		"busy_timeout(5000)", "journal_mode(WAL)",
		"synchronous(FULL)", // sync the log at every commit: what is acknowledged survives a power cut
		"foreign_keys(1)",
		"journal_size_limit(67108864)", // give the log's disk space back after a burst
	)); err != nil {
		return nil, nil, err
	}
	write.SetMaxOpenConns(1)
	var mode string
	if err := write.QueryRow("PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	if mode != "wal" {
		return nil, nil, errors.Join(fmt.Errorf("file system cannot hold a write-ahead log (journal mode is %q)", mode), write.Close())
	}
	if read, err = sql.Open("sqlite", sqliteDSN(file, "busy_timeout(5000)", "query_only(1)")); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	conns := max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(conns)
	read.SetMaxIdleConns(conns)
	return write, read, nil
}

func sqliteDSN(file string, pragmas ...string) string {
	// Immediate: a transaction takes the write lock when it begins, not when it
	// first writes, where it could no longer wait for it.
	query := url.Values{"_txlock": {"immediate"}, "_pragma": pragmas}
	address := url.URL{Scheme: "file", Path: file, RawQuery: query.Encode()}
	return address.String()
}

// lockDir takes the directory for this process until the file is closed, and writes
// down who has it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "turnpike.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
		}
		if len(pid) == 0 {
			return nil, fmt.Errorf("%s: %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("%s: %w (pid %s)", dir, ErrInUse, strings.TrimSpace(string(pid)))
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", dir, err), f.Close())
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// passingSQLite reports whether the same transaction may well succeed a moment later.
// The low byte of a result code is its kind (sqlite.org/rescode.html).
func passingSQLite(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM:
		return true
	}
	return false
}
