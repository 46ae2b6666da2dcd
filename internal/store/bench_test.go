package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

// callers is how many admissions wait at a time.
const callers = 128

// crowd runs f b.N times from 128 callers.
func crowd(b *testing.B, f func(n int64) error) {
	var n atomic.Int64
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		all.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "admissions/s")
}

// BenchmarkAdmit is the whole of an admission in the store. Its ratio to
// BenchmarkRawCommit, of the same run, says what our part of it costs.
func BenchmarkAdmit(b *testing.B) {
	for name, config := range databases() {
		b.Run(name, func(b *testing.B) {
			s := storetest.Open(b, config(b))
			at := start()
			crowd(b, func(n int64) error {
				_, err := s.Admit(b.Context(), admission(fmt.Sprint("session", n), fmt.Sprint("token", n), at))
				return err
			})
		})
	}
}

// BenchmarkRawCommit writes the same rows in the same kind of group commit, with
// nothing around it: no claims to settle, no rivals, no retries, no audit ids.
func BenchmarkRawCommit(b *testing.B) {
	for name, config := range databases() {
		b.Run(name, func(b *testing.B) {
			c := config(b)
			check(b, value(store.Open(b.Context(), c))(b).Close()) // makes the tables
			db := rawDatabase(b, c)
			defer db.Close()
			queue := make(chan rawWork, 2*callers)
			var done sync.WaitGroup
			done.Go(func() { rawBatches(db, queue) })
			at := start()
			crowd(b, func(n int64) error {
				a := admission(fmt.Sprint("session", n), fmt.Sprint("token", n), at)
				w := rawWork{&a, make(chan error, 1)}
				queue <- w
				return <-w.done
			})
			close(queue)
			done.Wait()
		})
	}
}

func rawDatabase(b *testing.B, c store.Config) *sql.DB {
	if c.DSN != "" {
		return value(sql.Open("pgx", c.DSN+"&default_query_exec_mode=exec"))(b)
	}
	query := url.Values{"_txlock": {"immediate"}, "_pragma": {"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}}
	db := value(sql.Open("sqlite", "file:"+filepath.Join(c.Dir, "turnpike.db")+"?"+query.Encode()))(b)
	db.SetMaxOpenConns(1)
	return db
}

type rawWork struct {
	*access.Admission
	done chan error
}

func rawBatches(db *sql.DB, queue <-chan rawWork) {
	for first := range queue {
		batch := []rawWork{first}
		for len(batch) < 256 && len(queue) > 0 {
			batch = append(batch, <-queue)
		}
		err := rawCommit(db, batch)
		for _, w := range batch {
			w.done <- err
		}
	}
}

func rawCommit(db *sql.DB, batch []rawWork) error {
	ctx := context.Background()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var spent, sessions, tickets, audit []any
	for _, w := range batch {
		g, at := w.Grant, w.At.UnixMilli()
		spent = append(spent, w.Spends, w.Session, w.SpentTill.UnixMilli())
		sessions = append(sessions, w.Session, g.App, g.Subject, w.Door, string(g.Actions[0]), g.Resource, w.From, w.Node, g.TokenID, g.KeyID,
			w.Spends, "", at, 0, 0, "")
		tickets = append(tickets, w.Ticket, w.Session, w.TicketEnd.UnixMilli())
		audit = append(audit, fmt.Sprintf("%016x-000-%s", at, w.Session), at, g.App, "admitted", "", w.Door, string(g.Actions[0]), g.Resource, g.Subject,
			g.TokenID, g.KeyID, w.Session, w.From, w.Node, "")
	}
	for _, insert := range []struct {
		into    string
		columns int
		rows    []any
	}{{"spent", 3, spent}, {"session", 16, sessions}, {"ticket", 3, tickets}, {"audit", 15, audit}} {
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+insert.into+" VALUES "+rawPlaces(len(batch), insert.columns), insert.rows...); err != nil {
			return err
		}
	}
	var revision int64
	if err := tx.QueryRowContext(ctx, "SELECT n FROM revision").Scan(&revision); err != nil {
		return err
	}
	return tx.Commit()
}

func rawPlaces(rows, columns int) string {
	var text strings.Builder
	for i := range rows * columns {
		switch {
		case i == 0:
			text.WriteString("(")
		case i%columns == 0:
			text.WriteString("),(")
		default:
			text.WriteString(",")
		}
		fmt.Fprintf(&text, "$%d", i+1)
	}
	return text.String() + ")"
}
