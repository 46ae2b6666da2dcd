package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
	"github.com/turnpike-rtc/turnpike/token"
)

// occupy takes SQLite's write lock, so that the batcher has to wait, and returns how
// to give it back.
func occupy(t testing.TB, c store.Config) (release func()) {
	t.Helper()
	db := value(sql.Open("sqlite", filepath.Join(c.Dir, "turnpike.db")))(t)
	conn := value(db.Conn(t.Context()))(t)
	value(conn.ExecContext(t.Context(), "BEGIN IMMEDIATE"))(t)
	return func() {
		value(conn.ExecContext(context.Background(), "ROLLBACK"))(t)
		check(t, conn.Close())
		check(t, db.Close())
	}
}

func TestACallerWhoLeavesHarmsNobody(t *testing.T) {
	c := storetest.SQLite(t)
	s := storetest.Open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	release := occupy(t, c)
	first := make(chan error, 1)
	go func() { // is in the transaction that waits, or about to be
		_, err := s.Admit(ctx, admission("s0", "t0", start()))
		first <- err
	}()
	short, leave := context.WithTimeout(ctx, 100*time.Millisecond)
	defer leave()
	errs := race(10, func(i int) error {
		_, err := s.Admit(short, admission(fmt.Sprint("gone", i), fmt.Sprint("t", i+1), start()))
		return err
	})
	for _, err := range errs {
		want(t, err, context.DeadlineExceeded)
	}
	release()
	check(t, <-first)
	for i := range 10 { // whether they happened is open; Abort settles it
		check(t, s.Abort(ctx, fmt.Sprint("gone", i), "left", start()))
		admit(t, ctx, s, admission(fmt.Sprint("next", i), fmt.Sprint("t", i+1), start()))
	}
	same(t, len(value(s.Sessions(ctx, "", false, 0))(t)), 11)
}

func TestAFullQueueMakesCallersWaitAndLosesNothing(t *testing.T) {
	c := storetest.SQLite(t)
	c.MaxBatch = 4
	s := value(store.Open(t.Context(), c))(t)
	release := occupy(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	queued, full := 0, error(nil)
	for full == nil && queued < 1000 {
		full = s.Note(ctx, access.Event{At: start(), App: "shop", Kind: fmt.Sprint(queued)})
		if full == nil {
			queued++
		}
	}
	want(t, full, context.DeadlineExceeded)
	if queued < 16 || queued > 20 { // four batches in the queue, and one in hand
		t.Errorf("%d events were queued", queued)
	}
	release()
	check(t, s.Close())
	s = storetest.Open(t, c)
	same(t, len(value(s.Events(t.Context(), "shop", "", 0))(t)), queued)
}

func TestCloseWritesWhatIsQueued(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			s := value(store.Open(t.Context(), c))(t)
			for i := range 500 {
				check(t, s.Note(t.Context(), access.Event{At: start(), App: "shop", Kind: fmt.Sprint(i)}))
			}
			check(t, s.Close())
			_, err := s.Admit(t.Context(), admission("s1", "t1", start()))
			want(t, err, store.ErrClosed)
			s = storetest.Open(t, c)
			same(t, len(value(s.Events(t.Context(), "shop", "", 0))(t)), 500)
		})
	}
}

func TestCloseBesideCallersAnswersThemAll(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			s := value(store.Open(t.Context(), config(t)))(t)
			var admitted atomic.Int64
			var callers sync.WaitGroup
			for i := range 32 {
				callers.Go(func() {
					for n := 0; ; n++ {
						_, err := s.Admit(t.Context(), admission(fmt.Sprintf("s%d-%d", i, n), fmt.Sprintf("t%d-%d", i, n), start()))
						if err != nil {
							if !errors.Is(err, store.ErrClosed) {
								t.Error(err)
							}
							return
						}
						admitted.Add(1)
					}
				})
			}
			for admitted.Load() < 100 {
				time.Sleep(time.Millisecond)
			}
			check(t, s.Close())
			callers.Wait()
		})
	}
}

// TestOneBadWorkDoesNotCostTheOthers uses what PostgreSQL alone refuses: a NUL in an id.
func TestOneBadWorkDoesNotCostTheOthers(t *testing.T) {
	s := storetest.Open(t, storetest.Postgres(t))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	errs := race(64, func(i int) error {
		session := fmt.Sprint("s", i)
		if i == 20 {
			session = "bad\x00"
		}
		_, err := s.Admit(ctx, admission(session, fmt.Sprint("t", i), start()))
		return err
	})
	for i, err := range errs {
		if (err != nil) != (i == 20) {
			t.Errorf("%d: %v", i, err)
		}
	}
	admit(t, ctx, s, admission("s20", "t20", start())) // the bad one spent nothing
}

// proxy stands between the store and PostgreSQL and can cut the line.
type proxy struct {
	net.Listener
	server  string
	atCut   atomic.Bool // cut when the answer to the next COMMIT comes back
	down    atomic.Bool // accept nothing
	mu      sync.Mutex  // guards lines
	lines   []net.Conn
	ended   sync.WaitGroup
	cutDone atomic.Bool
}

// throughProxy returns c changed to go through a proxy.
func throughProxy(t testing.TB, c store.Config) (store.Config, *proxy) {
	t.Helper()
	dsn := value(url.Parse(c.DSN))(t)
	query := dsn.Query()
	p := &proxy{Listener: value(net.Listen("tcp", "127.0.0.1:0"))(t),
		server: filepath.Join(query.Get("host"), ".s.PGSQL.5432")}
	if _, err := os.Stat(p.server); err != nil {
		t.Fatalf("this test needs PostgreSQL on a Unix socket: %v", err)
	}
	query.Del("host")
	query.Set("sslmode", "disable")
	dsn.Host, dsn.RawQuery = p.Addr().String(), query.Encode()
	c.DSN = dsn.String()
	p.ended.Go(p.serve)
	t.Cleanup(func() {
		p.Close()
		p.cut()
		p.ended.Wait()
	})
	return c, p
}

func (p *proxy) serve() {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil || p.down.Load() {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.lines = append(p.lines, client, server)
		p.mu.Unlock()
		var commits atomic.Bool
		p.ended.Go(func() { p.copy(server, client, func(b []byte) bool { commits.Store(isCommit(b)); return true }) })
		p.ended.Go(func() {
			p.copy(client, server, func([]byte) bool {
				cut := commits.Load() && p.atCut.CompareAndSwap(true, false)
				p.cutDone.CompareAndSwap(false, cut)
				return !cut
			})
		})
	}
}

// isCommit finds the simple query "commit" at the end of what the client sends.
func isCommit(b []byte) bool { return bytes.HasSuffix(bytes.ToLower(b), []byte("commit\x00")) }

// copy passes on what pass lets through, and then ends both directions.
func (p *proxy) copy(to, from net.Conn, pass func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !pass(buffer[:n]) {
			return
		}
		if _, err := io.Copy(to, bytes.NewReader(buffer[:n])); err != nil {
			return
		}
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.lines {
		c.Close()
	}
	p.lines = nil
}

func TestACommitWhoseAnswerIsLostCountsOnce(t *testing.T) {
	c, p := throughProxy(t, storetest.Postgres(t))
	s := storetest.Open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	at := start()
	p.atCut.Store(true)
	admit(t, ctx, s, admission("s1", "t1", at))
	if !p.cutDone.Load() {
		t.Fatal("the line was not cut")
	}
	p.atCut.Store(true)
	admit(t, ctx, s, resumption("s2", "s1", at))
	p.atCut.Store(true)
	check(t, s.End(ctx, "s2", "kicked", true, at))
	same(t, trail(t, ctx, s), []string{"s1 admitted ", "s2 admitted ", "s1 ended resumed", "s2 ended kicked"})
	same(t, value(s.Revision(ctx))(t), int64(1))

	p.atCut.Store(true) // a record is not written twice: the caller is told to look
	if err := s.CreateApp(ctx, token.App{Name: "shop"}); err == nil || !strings.Contains(err.Error(), "cannot tell") {
		t.Errorf("got %v", err)
	}
	value(s.App(ctx, "shop"))(t)
}

func TestNotesSurviveAnOutage(t *testing.T) {
	c, p := throughProxy(t, storetest.Postgres(t))
	s := storetest.Open(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	admit(t, ctx, s, admission("s1", "t1", start()))
	p.down.Store(true)
	p.cut()
	check(t, s.Note(ctx, access.Event{At: start(), App: "shop", Kind: "noted in the dark"}))
	if _, err := s.Admit(ctx, admission("s2", "t2", start())); err == nil {
		t.Fatal("admitted without a database")
	}
	p.down.Store(false)
	admit(t, ctx, s, admission("s3", "t2", start()))
	for {
		for _, e := range value(s.Events(ctx, "shop", "", 0))(t) {
			if e.Kind == "noted in the dark" {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatal("the note is lost")
		}
	}
}

// TestCloseEndsWithoutADatabase holds more notes than a batch takes: they are lost, as
// the log says, but Close ends and callers get their answers.
func TestCloseEndsWithoutADatabase(t *testing.T) {
	c, p := throughProxy(t, storetest.Postgres(t))
	c.MaxBatch = 4
	var log bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := value(store.Open(t.Context(), c))(t)
	p.down.Store(true)
	p.cut()
	for i := range 12 {
		check(t, s.Note(t.Context(), access.Event{At: start(), App: "shop", Kind: fmt.Sprint(i)}))
	}
	answer := make(chan error, 1)
	go func() {
		_, err := s.Admit(t.Context(), admission("s1", "t1", start()))
		answer <- err
	}()
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	for _, done := range []chan error{answer, closed} {
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("it hangs")
		}
	}
	if !strings.Contains(log.String(), "audit events are lost") {
		t.Errorf("the log does not say so: %s", log.String())
	}
}

func TestWritersOfTheLogSaySo(t *testing.T) {
	for name, config := range databases() {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			heard := make(chan struct{}, 100)
			c.Changed = func() { heard <- struct{}{} }
			s := storetest.Open(t, c)
			ctx := t.Context()
			addApp(t, ctx, s, "shop")
			admit(t, ctx, s, admission("s1", "t1", start()))
			same(t, len(heard), 1)
			admit(t, ctx, s, resumption("s2", "s1", start()))
			same(t, len(heard), 2)
			want(t, s.CreateApp(ctx, token.App{Name: "shop"}), store.ErrExists)
			same(t, len(heard), 2)
		})
	}
}
