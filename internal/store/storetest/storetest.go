// Package storetest gives tests the two real databases. A test package that uses
// PostgreSQL starts it in its TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
//
// Turnpike itself does not use this package.
package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"

	"github.com/turnpike-rtc/turnpike/internal/store"
)

// serverVariable hands the address of the running PostgreSQL from Main to Postgres,
// and on to child processes. Set from outside, it names a server to use instead.
const serverVariable = "TURNPIKE_TEST_POSTGRES"

// SQLite returns the configuration of a new, empty store in a directory of its own.
func SQLite(t testing.TB) store.Config {
	t.Helper()
	return store.Config{Dir: t.TempDir(), MasterKey: MasterKey()}
}

// Postgres returns the configuration of a new, empty store in a database of its own
// on the server that Main started. It fails the test when there is none.
func Postgres(t testing.TB) store.Config {
	t.Helper()
	server := os.Getenv(serverVariable)
	if server == "" {
		t.Fatal("no PostgreSQL is running: call storetest.Main in TestMain of this package")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	name := "t" + strings.ToLower(rand.Text())
	if _, err := admin.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("cannot create database: %v", err)
	}
	t.Cleanup(func() { drop(t, server, name) })
	dsn, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	dsn.Path = "/" + name
	return store.Config{DSN: dsn.String(), Dir: t.TempDir(), MasterKey: MasterKey()}
}

func drop(t testing.TB, server, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	admin, err := sql.Open("pgx", server)
	if err != nil {
		t.Error(err)
		return
	}
	defer admin.Close()
	if _, err := admin.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
		t.Errorf("cannot drop database: %v", err)
	}
}

// MasterKey returns the key of the stores of this package, always the same.
func MasterKey() [32]byte { return [32]byte([]byte("a master key that is for tests !")) }

// Open opens a store and closes it at the end of the test.
func Open(t testing.TB, c store.Config) *store.Store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("cannot close store: %v", err)
		}
	})
	return s
}

// Main starts PostgreSQL, runs the tests, stops it and returns the exit code. The
// server runs with fsync on, which is its default, under an unprivileged user when the tests are root's, on
// a Unix socket in a directory of its own. The tests fail when it is not installed.
func Main(m *testing.M) int {
	if os.Getenv(serverVariable) != "" {
		return m.Run()
	}
	dsn, stop, err := startPostgres()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot start PostgreSQL for the tests: %v\n", err)
		return 1
	}
	defer stop()
	os.Setenv(serverVariable, dsn)
	return m.Run()
}

// startPostgres starts a fresh server and returns how to reach and how to end it.
func startPostgres() (dsn string, stop func(), err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", nil, err
	}
	owner, err := unprivileged()
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "turnpike-pg-")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if owner != nil {
		if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return "", nil, err
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "turnpike", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: owner}
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	server := exec.Command("sh", "-c", leash, "sh", filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "max_connections=300", "-c", "log_min_messages=panic")
	server.Dir, server.SysProcAttr, server.Stderr = dir, &syscall.SysProcAttr{Credential: owner}, os.Stderr
	end, err := server.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		end.Close()
		server.Wait()
		os.RemoveAll(dir)
	}
	dsn = "postgres:///postgres?" + url.Values{"host": {dir}, "user": {"turnpike"}}.Encode()
	if err := awaitPostgres(dsn); err != nil {
		stop()
		return "", nil, err
	}
	return dsn, stop, nil
}

// leash runs a command until standard input ends, and it ends with this process
// however that dies: a killed test leaves no server behind.
const leash = `exec 3<&0; "$@" </dev/null & read -r _ <&3; kill -INT $!; wait $!`

func awaitPostgres(dsn string) error {
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// postgresBin finds the directory with initdb and postgres: that of PATH, or the
// newest of Debian's.
func postgresBin() (string, error) {
	if file, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(file), nil
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dir := strings.TrimSpace(string(out))
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errors.New("initdb is neither on PATH nor in /usr/lib/postgresql; on Debian: apt-get install postgresql")
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

// version reads 15 from /usr/lib/postgresql/15/bin/initdb.
func version(file string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(file))))
	return n
}

// unprivileged returns whom the server runs as; nil: as the tests, which are not root's.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("it does not run as root, and there is no user postgres or nobody")
}
