// Package authority is the one place that says whether a credential is genuine:
// connect tokens, resume tickets, user tokens, API keys and the proofs of devices.
// It issues connect tokens too.
//
// It keeps the keys, devices and apps it has looked up, and throws them away when
// the store's change log says that one of them changed. Every claim it returns
// carries the revision of that log at which it was true; whoever lets somebody in
// on the strength of it compares (see package session).
//
// An unknown key or device costs as much work as a known one with a wrong
// signature, so that an answer's delay does not tell which ids exist.
package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// keeper is what the authority needs of the store. Lookups that find nothing
// return token.ErrUnknown.
type keeper interface {
	records
	changelog
	Keys(ctx context.Context, app string) ([]token.Key, error)
	Ticket(ctx context.Context, hash string) (token.Claims, error)
}

// records finds single records. It has a method for each way a credential names
// the one it belongs to.
type records interface {
	Key(ctx context.Context, id string) (token.Key, error)
	Device(ctx context.Context, id string) (token.Device, error)
	App(ctx context.Context, name string) (token.App, error)
	AppByIssuer(ctx context.Context, issuer string) (token.App, error)
}

// changelog is the log of changes that every node follows.
type changelog interface {
	Revision(ctx context.Context) (int64, error)
	Changes(ctx context.Context, after int64, limit int) ([]token.Change, error)
	Revocations(ctx context.Context, now time.Time) ([]token.Change, error)
}

// Authority verifies and issues credentials. Its methods may be called from any
// goroutine.
//
// A credential that is refused makes an error that wraps one of the sentinels of
// package token; any other error means that the authority could not find out. The
// claims that come with a refusal say what the credential said of itself: they
// are for the audit trail and for nothing else.
type Authority struct {
	keeper keeper
	now    func() time.Time
	log    *slog.Logger

	keys    cache[token.Key]
	devices cache[token.Device]
	apps    cache[token.App]
	issuers cache[token.App] // by the issuer of their user tokens
	jwks    *keySets
	nobody  token.Secrets // random: what unknown keys and devices are checked with
	wake    chan struct{}

	// following is held while the change log is read and passed on, so that
	// listeners hear of changes one at a time and in order. It is taken before mu.
	following lock

	mu        sync.Mutex
	view      view
	revoked   map[revocation]time.Time // what is void, and which tokens of a subject
	listeners []func(token.Change)
}

// New builds an authority over the records in k. Call Run to make it follow them;
// without it, it reads the change log when its view is older than two seconds.
func New(k keeper, now func() time.Time, log *slog.Logger) *Authority {
	return &Authority{
		keeper:    k,
		following: make(lock, 1),
		now:       now,
		log:       log,
		keys:      newCache[token.Key](),
		devices:   newCache[token.Device](),
		apps:      newCache[token.App](),
		issuers:   newCache[token.App](),
		jwks:      newKeySets(now, log),
		nobody:    token.Secrets{App: token.NewSecret(), Device: token.NewSecret()},
		wake:      make(chan struct{}, 1),
		revoked:   make(map[revocation]time.Time),
	}
}

func (a *Authority) key(ctx context.Context, v view, id string) (token.Key, error) {
	if !token.ValidKeyID(id) {
		return token.Key{}, token.ErrUnknown
	}
	return a.keys.get(ctx, v, id, a.keeper.Key)
}

func (a *Authority) device(ctx context.Context, v view, id string) (token.Device, error) {
	return a.devices.get(ctx, v, id, a.keeper.Device)
}

func (a *Authority) app(ctx context.Context, v view, name string) (token.App, error) {
	return a.apps.get(ctx, v, name, a.keeper.App)
}

// refused tells a refusal from a failure to find out.
func refused(err error) bool { return token.Reason(err) != "" }

// unless returns err when it is a failure, and nil when it is a refusal or nothing.
func unless(doing, what string, err error) error {
	if err == nil || refused(err) {
		return nil
	}
	return fmt.Errorf("cannot %s: cannot read %s: %w", doing, what, err)
}

// first returns the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

var errGap = errors.New("the change log has forgotten changes that this node has not seen")
