//go:build bench

package test

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/turnpike-rtc/turnpike/internal/store"
)

// The yardstick of admissions: the least that makes the rows of an admission durable.
// It knows no token, no session and no rule. One goroutine takes the rows that wait, up
// to 256 admissions, inserts them with one statement for each table, commits, and
// answers. The rows are copies of those of a real admission, with other keys.

// rawTables are the tables an admission writes to, and the column that tells its rows.
var rawTables = []struct{ name, session string }{
	{"spent", "claimant"}, {"session", "id"}, {"ticket", "session"}, {"audit", "session"},
}

// rawRows are the rows of one admission, for each table; the values of the rows of a
// table lie one after the other.
type rawRows [][]any

// rawCommitter commits rows in groups.
type rawCommitter struct {
	db       *sql.DB
	numbered bool     // placeholders are $1, $2 instead of ?
	inserts  []string // the statement for each table, up to VALUES
	columns  []int
	queue    chan rawWork
	idle     chan struct{}
}

type rawWork struct {
	rows rawRows
	done chan error
}

// openRaw opens the database of a store a second time, with the settings of the store.
func openRaw(t *testing.T, c store.Config) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", ""
	if c.DSN == "" {
		driver = "sqlite"
		query := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"}}
		dsn = (&url.URL{Scheme: "file", Path: filepath.Join(c.Dir, "turnpike.db"), RawQuery: query.Encode()}).String()
	} else {
		at, err := url.Parse(c.DSN)
		if err != nil {
			t.Fatal(err)
		}
		query := at.Query()
		query.Set("default_query_exec_mode", "exec")
		at.RawQuery = query.Encode()
		dsn = at.String()
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

// readRows returns the rows that the admission of a session wrote, and the statements
// that write such rows.
func readRows(t *testing.T, db *sql.DB, session string) (rows rawRows, inserts []string) {
	t.Helper()
	for _, table := range rawTables {
		found, err := db.Query(`SELECT * FROM `+table.name+` WHERE `+table.session+` = $1`, session)
		if err != nil {
			t.Fatal(err)
		}
		columns, err := found.Columns()
		if err != nil {
			t.Fatal(err)
		}
		var values []any
		for found.Next() {
			row := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			if err := found.Scan(into...); err != nil {
				t.Fatal(err)
			}
			values = append(values, row...)
		}
		if err := errors.Join(found.Err(), found.Close()); err != nil {
			t.Fatal(err)
		}
		if len(values) != len(columns) {
			t.Fatalf("the admission wrote %d values to %s, want one row of %d", len(values), table.name, len(columns))
		}
		rows = append(rows, values)
		inserts = append(inserts, `INSERT INTO `+table.name+` (`+strings.Join(columns, ", ")+`) VALUES `)
	}
	return rows, inserts
}

// anew returns a copy of the rows in which every key is another one, as long as it was.
// The same key stays the same in all tables. Keys are random but those of the audit
// trail, which grow, as they do in the store.
func (r rawRows) anew(keys map[string]bool) rawRows {
	fresh := make(map[string]string)
	renamed := make(rawRows, len(r))
	for i, values := range r {
		renamed[i] = slices.Clone(values)
		for j, v := range renamed[i] {
			old, ok := v.(string)
			if !ok || !keys[old] {
				continue
			}
			if fresh[old] == "" {
				fresh[old] = randomText(len(old))
			}
			if j == 0 && rawTables[i].name == "audit" {
				fresh[old] = (fmt.Sprintf("%016x", time.Now().UnixNano()) + fresh[old])[:len(old)]
			}
			renamed[i][j] = fresh[old]
		}
	}
	return renamed
}

// keys are the values that must differ between admissions: the first column of each
// table, and whatever equals one of them.
func (r rawRows) keys() map[string]bool {
	keys := make(map[string]bool)
	for _, values := range r {
		keys[values[0].(string)] = true
	}
	return keys
}

func randomText(n int) string {
	text := rand.Text()
	for len(text) < n {
		text += rand.Text()
	}
	return text[:n]
}

// startRaw starts a committer; stop ends it.
func startRaw(db *sql.DB, numbered bool, inserts []string, like rawRows) *rawCommitter {
	c := &rawCommitter{db: db, numbered: numbered, inserts: inserts, queue: make(chan rawWork, 1024), idle: make(chan struct{})}
	for _, values := range like {
		c.columns = append(c.columns, len(values))
	}
	go c.run()
	return c
}

func (c *rawCommitter) stop() {
	close(c.queue)
	<-c.idle
}

// commit returns when the rows are on disk.
func (c *rawCommitter) commit(rows rawRows) error {
	w := rawWork{rows, make(chan error, 1)}
	c.queue <- w
	return <-w.done
}

func (c *rawCommitter) run() {
	defer close(c.idle)
	for w := range c.queue {
		works := []rawWork{w}
	more:
		for len(works) < 256 {
			select {
			case w, ok := <-c.queue:
				if !ok {
					break more
				}
				works = append(works, w)
			default:
				break more
			}
		}
		err := c.write(works)
		for _, w := range works {
			w.done <- err
		}
	}
}

func (c *rawCommitter) write(works []rawWork) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	// In the order of the first key, which is that of the spent tokens, as the store does.
	slices.SortFunc(works, func(a, b rawWork) int { return cmp.Compare(a.rows[0][0].(string), b.rows[0][0].(string)) })
	for i, insert := range c.inserts {
		var values []any
		for _, w := range works {
			values = append(values, w.rows[i]...)
		}
		if _, err := tx.ExecContext(ctx, insert+c.placeholders(len(works), c.columns[i]), values...); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// placeholders writes ($1,$2),($3,$4) for two rows of two columns, and (?,?),(?,?) for
// SQLite, which takes $1 for a name and searches all names for each one.
func (c *rawCommitter) placeholders(rows, columns int) string {
	var b strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			b.WriteString("(")
		case i%columns == 0:
			b.WriteString("),(")
		default:
			b.WriteString(",")
		}
		if c.numbered {
			fmt.Fprintf(&b, "$%d", i+1)
		} else {
			b.WriteByte('?')
		}
	}
	b.WriteString(")")
	return b.String()
}
