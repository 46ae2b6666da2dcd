package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

const (
	pollEvery   = 400 * time.Millisecond // how long a change may go unheard when nobody wakes us
	staleAfter  = 2 * time.Second        // how old a view may be that credentials are judged by
	reloadEvery = 10 * time.Minute       // how often revocations that no longer matter are dropped
	changesRead = 256                    // changes read at a time
)

// view is how far the authority has followed the change log.
type view struct {
	revision int64     // every change up to this one has been heard
	records  int64     // the latest of them that touched a key, a device, an app or a rule
	seen     time.Time // when there was no newer one; zero before the first look
}

// revocation names what was revoked. App is part of it: subjects are named by apps.
type revocation struct {
	kind    token.ChangeKind
	app, id string
}

// OnChange has f called for every change that is logged from now on, in the order
// of the log and one at a time. f must not wait for the authority.
func (a *Authority) OnChange(f func(token.Change)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = append(a.listeners, f)
}

// Wake makes Run look at the change log now. The bus calls it.
func (a *Authority) Wake() {
	select {
	case a.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Run follows the change log until ctx ends, and returns nil then. While the store
// cannot be read it keeps trying. It fails when changes were forgotten before it
// could read them: only a restart, after which sessions are checked anew, is safe.
func (a *Authority) Run(ctx context.Context) error {
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	reload := time.NewTicker(reloadEvery)
	defer reload.Stop()
	failing := false
	for {
		err := a.follow(ctx, 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errGap):
			return err
		case err != nil && !failing:
			a.log.Error("cannot follow the change log; credentials are refused until it can be read", slog.Any("error", err))
		case err == nil && failing:
			a.log.Info("follows the change log again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-a.wake:
		case <-reload.C:
			if err := a.reload(ctx); err != nil {
				a.log.Warn("cannot read revocations anew", slog.Any("error", err))
			}
		}
	}
}

// readPatience bounds every wait for the store: one that hangs refuses callers, it does
// not hold them.
const readPatience = 5 * time.Second

// lock is a mutex whose wait ends with a context.
type lock chan struct{}

func (l lock) take(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot follow the change log: %w", ctx.Err())
	}
}

func (l lock) giveBack() { <-l }

// current returns a view that is fresh enough to judge credentials by.
func (a *Authority) current(ctx context.Context) (view, error) {
	a.mu.Lock()
	v := a.view
	a.mu.Unlock()
	if a.fresh(v, staleAfter) {
		return v, nil
	}
	if err := a.follow(ctx, staleAfter); err != nil {
		return view{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view, nil
}

func (a *Authority) fresh(v view, age time.Duration) bool {
	return !v.seen.IsZero() && a.now().Before(v.seen.Add(age))
}

// follow reads what the log has and passes it on, unless the view is fresh by the
// time it may.
func (a *Authority) follow(ctx context.Context, age time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	if err := a.following.take(ctx); err != nil {
		return err
	}
	defer a.following.giveBack()
	a.mu.Lock()
	v := a.view
	a.mu.Unlock()
	if a.fresh(v, age) {
		return nil
	}
	if v.seen.IsZero() {
		return a.load(ctx)
	}
	for {
		began := a.now()
		changes, err := a.keeper.Changes(ctx, v.revision, changesRead)
		if err != nil {
			return a.explain(ctx, v.revision, err)
		}
		last := len(changes) < changesRead
		if !last {
			began = v.seen // there may be more
		}
		v = a.apply(changes, began)
		a.passOn(changes)
		if last {
			return nil
		}
	}
}

// load takes in the state of the store, for an authority that starts.
func (a *Authority) load(ctx context.Context) error {
	began := a.now()
	revision, err := a.keeper.Revision(ctx)
	if err != nil {
		return fmt.Errorf("cannot start to follow the change log: %w", err)
	}
	revoked, err := a.readRevocations(ctx) // after the revision: what comes between is in both
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked = revoked
	a.view = view{revision: revision, records: revision, seen: began}
	return nil
}

// reload drops the revocations that no longer matter.
func (a *Authority) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	if err := a.following.take(ctx); err != nil {
		return err
	}
	defer a.following.giveBack()
	revoked, err := a.readRevocations(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revoked = revoked
	return nil
}

func (a *Authority) readRevocations(ctx context.Context) (map[revocation]time.Time, error) {
	all, err := a.keeper.Revocations(ctx, a.now())
	if err != nil {
		return nil, fmt.Errorf("cannot read revocations: %w", err)
	}
	revoked := make(map[revocation]time.Time, len(all))
	for _, c := range all {
		note(revoked, c)
	}
	return revoked, nil
}

// explain tells a store that cannot be read now from a log that has forgotten what
// comes after revision: of such a log the newest line can be read.
func (a *Authority) explain(ctx context.Context, revision int64, err error) error {
	newest, failed := a.keeper.Revision(ctx)
	if failed == nil && newest > revision {
		if _, failed = a.keeper.Changes(ctx, newest-1, 1); failed == nil {
			err = errors.Join(errGap, err)
		}
	}
	return fmt.Errorf("cannot follow the change log: %w", err)
}

func (a *Authority) apply(changes []token.Change, seen time.Time) view {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range changes {
		a.view.revision = c.Revision
		switch c.Kind {
		case token.ChangeToken, token.ChangeSubject:
			note(a.revoked, c)
		case token.ChangeSession: // touches nothing that is cached
		default:
			a.view.records = c.Revision
		}
	}
	a.view.seen = seen
	return a.view
}

func note(revoked map[revocation]time.Time, c token.Change) {
	r := revocation{c.Kind, c.App, c.ID}
	if c.At.After(revoked[r]) {
		revoked[r] = c.At
	}
}

func (a *Authority) passOn(changes []token.Change) {
	a.mu.Lock()
	listeners := slices.Clone(a.listeners)
	a.mu.Unlock()
	for _, c := range changes {
		for _, f := range listeners {
			f(c)
		}
	}
}

// isRevoked reports whether the token, or every token its subject had when c was
// issued, has been revoked.
func (a *Authority) isRevoked(c token.Claims) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.revoked[revocation{token.ChangeToken, c.App, c.ID}]; ok {
		return true
	}
	at, ok := a.revoked[revocation{token.ChangeSubject, c.App, c.Subject}]
	return ok && !c.Issued.After(at)
}
