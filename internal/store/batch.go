package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// The batcher is one goroutine. It takes the works that are queued, up to MaxBatch and
// without waiting for more, puts them into one transaction, and answers all callers
// when that is on disk. While the disk syncs, the next works gather: alone, a caller
// waits for nobody; in a crowd, 256 share one sync.
//
// The queue has room for four batches. When it is full, callers wait for as long as
// their context lets them.

// work is one caller's share of a batch. It may be carried out more than once, when a
// transaction is tried again: all of it is written so that this changes nothing.
type work struct {
	ctx   context.Context
	admit *access.Admission // an admission, or
	step  step              // statements to run, or
	event *access.Event     // a line for the audit trail
	audit int64             // number of the work, for the ids of its audit events

	noted    int        // audit events of this work so far, in this attempt
	revision int64      // of an admission
	refused  error      // the answer when the transaction succeeds
	done     chan error // buffered; nil when nobody waits
}

// step runs statements inside the batch's transaction. It returns the database's errors
// as they are; what the caller gets goes into variables that only he reads.
type step func(ctx context.Context, b *batch) error

// batch is a transaction in the making.
type batch struct {
	tx       *sql.Tx
	numbered bool   // placeholders are $1, $2, not ?
	again    bool   // some rows may be there, from an attempt before
	origin   string // of the audit ids
	events   []any  // rows for the audit table, one value after the other
	work     *work  // the one whose turn it is
	logged   bool   // it wrote to the change log
}

// submit queues w and waits for its answer. When ctx ends first, the work may or may
// not happen.
func (s *Store) submit(ctx context.Context, w *work) error {
	w.ctx, w.done = ctx, make(chan error, 1)
	if err := s.enqueue(ctx, w); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) enqueue(ctx context.Context, w *work) error {
	w.audit = s.audit.Add(1)
	s.mu.RLock() // Close waits here for senders; the batcher keeps making room for them
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- w:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step submits statements of one caller.
func (s *Store) step(ctx context.Context, f step) error { return s.submit(ctx, &work{step: f}) }

// runBatches commits what is queued until Close.
func (s *Store) runBatches() {
	defer close(s.idle)
	var held []*work // notes of a batch that failed for a passing reason
	for {
		works := s.take(held)
		if len(works) == 0 {
			return
		}
		held = s.settle(works)
		if len(held) > 0 && s.closing() {
			s.log.Error("audit events are lost: the database did not take them before the end", "events", len(held))
			held = nil
		}
	}
}

// take returns held and what is queued behind it. It waits for at least one work; none
// means that the queue is closed and empty.
func (s *Store) take(held []*work) (works []*work) {
	works = held
	if len(works) == 0 {
		w, ok := <-s.queue
		if !ok {
			return nil
		}
		works = append(works, w)
	}
	for len(works) < s.maxBatch {
		select {
		case w, ok := <-s.queue:
			if !ok {
				return works
			}
			works = append(works, w)
		default:
			return works
		}
	}
	return works
}

// settle commits works and answers them. It returns the notes that could not be
// written for a passing reason: nobody waits for them, so they are kept for later.
func (s *Store) settle(works []*work) (held []*work) {
	works = slices.DeleteFunc(works, (*work).abandoned)
	if len(works) == 0 {
		return nil
	}
	err := s.commit(works)
	passing := err != nil && s.db.passing(err)
	if err != nil && !passing && len(works) > 1 {
		// One of them is not to the database's liking. The others must not pay for
		// it: look for it by halves.
		half := len(works) / 2
		return append(s.settle(works[:half:half]), s.settle(works[half:])...)
	}
	for _, w := range works {
		switch {
		case w.done != nil && err == nil:
			w.done <- w.refused
		case w.done != nil:
			w.done <- err
		case passing:
			held = append(held, w)
		case err != nil:
			s.log.Error("audit event is lost", "kind", w.event.Kind, "session", w.event.Session, "error", err)
		}
	}
	return held
}

// abandoned reports whether the caller has left before anything was done, and is then
// told so.
func (w *work) abandoned() bool {
	if w.done == nil || w.ctx.Err() == nil {
		return false
	}
	w.done <- w.ctx.Err()
	return true
}

// commit carries out works in one transaction. A failure that may pass is tried again,
// a connection lost at COMMIT included: for the same claimant the second attempt finds
// what the first one left. Any other failure gets a second attempt too, since it may
// come of rows that a caller's earlier admission of the same session has left.
func (s *Store) commit(works []*work) (err error) {
	for n := range attempts {
		err = s.tryCommit(works, n > 0)
		if err == nil || n == attempts-1 || n > 0 && !s.db.passing(err) {
			break
		}
		if s.db.passing(err) {
			time.Sleep(10 * time.Millisecond << (2 * n))
		}
	}
	s.report(err)
	if err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	return nil
}

// report logs when the database stops taking commits, and when it takes them again.
func (s *Store) report(err error) {
	switch failing := err != nil && s.db.passing(err); {
	case failing && !s.failing:
		s.log.Error("database does not take commits", "error", err)
		s.failing = true
	case err == nil && s.failing:
		s.log.Info("database takes commits again")
		s.failing = false
	}
}

// commitTimeout bounds one attempt on PostgreSQL, whose host may fall silent.
const commitTimeout = 15 * time.Second

func (s *Store) tryCommit(works []*work, again bool) error {
	ctx := context.Background() // one caller's end is not the others'
	if s.db.remote {
		limit, cancel := context.WithTimeout(ctx, commitTimeout)
		defer cancel()
		ctx = limit
	}
	tx, err := s.db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	b := &batch{tx: tx, numbered: s.db.remote, again: again, origin: s.origin, events: make([]any, 0, auditWidth*len(works))}
	if err := b.run(ctx, works); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if b.logged {
		s.notify()
	}
	return nil
}

// run carries out works: admissions first and together, then the steps in their order,
// so that a step of a caller who gave up on his admission finds it.
func (b *batch) run(ctx context.Context, works []*work) error {
	for _, w := range works {
		w.refused, w.noted = nil, 0
	}
	if err := b.admit(ctx, works); err != nil {
		return err
	}
	for _, w := range works {
		b.work = w
		switch {
		case w.step != nil:
			if err := w.step(ctx, b); err != nil {
				return err
			}
		case w.event != nil:
			b.note(*w.event)
		}
	}
	if err := b.writeEvents(ctx); err != nil {
		return err
	}
	return b.readRevision(ctx, works)
}

// readRevision comes last: the later it is read, the fewer admissions a change that
// happens meanwhile makes to verify again.
func (b *batch) readRevision(ctx context.Context, works []*work) error {
	if !slices.ContainsFunc(works, func(w *work) bool { return w.admit != nil }) {
		return nil
	}
	var n int64
	if err := b.tx.QueryRowContext(ctx, `SELECT n FROM revision WHERE id = 1`).Scan(&n); err != nil {
		return err
	}
	for _, w := range works {
		w.revision = n
	}
	return nil
}

// announce logs a change as part of the batch.
func (b *batch) announce(ctx context.Context, c token.Change) (err error) {
	if c.Revision, err = bump(ctx, b.tx); err != nil {
		return err
	}
	b.logged = true
	return logChange(ctx, b.tx, c)
}

// insert writes rows, given as one value after the other, with one statement. That
// they may be there already is looked at in the second attempt only, since PostgreSQL
// pays for the look at each row.
func (b *batch) insert(ctx context.Context, into string, columns int, rows []any) error {
	if len(rows) == 0 {
		return nil
	}
	query := `INSERT INTO ` + into + ` VALUES ` + b.places(len(rows)/columns, columns)
	if b.again {
		query += ` ON CONFLICT DO NOTHING`
	}
	_, err := b.tx.ExecContext(ctx, query, rows...)
	return err
}

// places writes the placeholders of a multi-row VALUES: ($1,$2),($3,$4), and
// (?,?),(?,?) for SQLite: it takes $1 for a name and looks through all names for each
// one, which for the thousands of a full batch is half of the whole admission.
func (b *batch) places(rows, columns int) string {
	var text strings.Builder
	text.Grow(rows * columns * 5)
	for i := range rows * columns {
		switch {
		case i == 0:
			text.WriteString("(")
		case i%columns == 0:
			text.WriteString("),(")
		default:
			text.WriteString(",")
		}
		if b.numbered {
			text.WriteByte('$')
			text.WriteString(strconv.Itoa(i + 1))
		} else {
			text.WriteByte('?')
		}
	}
	text.WriteByte(')')
	return text.String()
}

// refuse is for steps: a row that is not there becomes the answer to the caller, and
// the batch goes on.
func (b *batch) refuse(err, answer error) error {
	missing, err := gone(err)
	if missing {
		b.work.refused = answer
	}
	return err
}

// gone tells a row that is not there from an error of the database.
func gone(err error) (missing bool, other error) {
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return false, err
}
