package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

func TestOneProcessHasTheDirectory(t *testing.T) {
	c := storetest.SQLite(t)
	s := value(store.Open(t.Context(), c))(t)
	_, err := store.Open(t.Context(), c)
	want(t, err, store.ErrInUse)
	if !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("the error does not say who has it: %v", err)
	}
	check(t, s.Close())
	storetest.Open(t, c)
}

func TestSQLiteFilesAreTheOwnersAlone(t *testing.T) {
	c := storetest.SQLite(t)
	c.Dir = filepath.Join(c.Dir, "a dir? with #odd% names")
	s := storetest.Open(t, c)
	addApp(t, t.Context(), s, "shop")
	files := value(filepath.Glob(filepath.Join(c.Dir, "*")))(t)
	if len(files) != 4 { // database, -wal, -shm, lock
		t.Errorf("got %q", files)
	}
	for _, file := range append(files, c.Dir) {
		if mode := value(os.Stat(file))(t).Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", file, mode)
		}
	}
}

func TestSQLiteSyncsEveryCommit(t *testing.T) {
	s := storetest.Open(t, storetest.SQLite(t))
	for query, wanted := range map[string]string{"PRAGMA synchronous": "2", "PRAGMA journal_mode": "wal", "PRAGMA foreign_keys": "1"} {
		same(t, value(s.Setting(t.Context(), query))(t), wanted)
	}
}

func TestPostgresSyncsEveryCommit(t *testing.T) {
	c := storetest.Postgres(t)
	defer run(t, c.DSN, `ALTER ROLE turnpike RESET synchronous_commit`)
	for configured, wanted := range map[string]string{"off": "on", "local": "on", "on": "on", "remote_apply": "remote_apply"} {
		run(t, c.DSN, `ALTER ROLE turnpike SET synchronous_commit = `+configured)
		s := value(store.Open(t.Context(), c))(t)
		same(t, value(s.Setting(t.Context(), "SHOW synchronous_commit"))(t), wanted)
		check(t, s.Close())
	}
}

func TestRefusesAPostgresThatDoesNotSync(t *testing.T) {
	c := storetest.Postgres(t)
	set := func(how string) {
		run(t, c.DSN, `ALTER SYSTEM `+how)
		run(t, c.DSN, `SELECT pg_reload_conf()`)
	}
	set(`SET fsync = off`)
	defer set(`RESET fsync`)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // the reload takes a moment
		s, err := store.Open(t.Context(), c)
		if err != nil {
			if !strings.Contains(err.Error(), "fsync=off") {
				t.Fatalf("got %v", err)
			}
			return
		}
		check(t, s.Close())
		if time.Now().After(deadline) {
			t.Fatal("it opens")
		}
	}
}

func run(t testing.TB, dsn, query string) {
	t.Helper()
	db := value(sql.Open("pgx", dsn))(t)
	defer db.Close()
	value(db.ExecContext(context.Background(), query))(t)
}

func TestManyNodesStartTogether(t *testing.T) {
	c := storetest.Postgres(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stores := race(5, func(int) *store.Store {
		s, err := store.Open(ctx, c)
		if err != nil {
			t.Error(err)
		}
		return s
	})
	for _, s := range stores {
		if s != nil {
			check(t, s.Close())
		}
	}
}

func TestRefusesADatabaseOfANewerProgram(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			check(t, value(store.Open(t.Context(), c))(t).Close())
			driver, dsn := "pgx", c.DSN
			if dsn == "" {
				driver, dsn = "sqlite", filepath.Join(c.Dir, "turnpike.db")
			}
			db := value(sql.Open(driver, dsn))(t)
			value(db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, $2)`, 9999, true))(t)
			check(t, db.Close())
			if _, err := store.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "newer") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestAnUnreachablePostgresIsAnErrorWithoutThePassword(t *testing.T) {
	for _, dsn := range []string{"postgres://u:hush-hush@127.0.0.1:1/db", "postgres://u:hush-hush@[::1/db", "postgres://u:hush-hush@h/db?sslmode=odd"} {
		_, err := store.Open(t.Context(), store.Config{DSN: dsn})
		if err == nil {
			t.Fatal("it opens")
		}
		noSecret(t, err)
	}
}
