package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/token"
)

// caller is who makes a request.
type caller struct {
	app   string // the app it manages; empty: the operator, who manages all
	actor string // for the audit trail: "operator", "key:ID"
	from  string // address
}

func (c caller) operator() bool { return c.app == "" }

// manages reports whether the caller may see and change the app.
func (c caller) manages(app string) bool { return c.operator() || c.app == app }

type callerKey struct{}

// callerOf returns who makes the request. Every operation but the public ones has one.
func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	if c.actor == "" {
		c.app = "\x00" // nobody: manages no app, not even all of them
	}
	return c
}

// authenticate finds out who is asking, before anything else of the request is read.
func (d *Door) authenticate(ctx huma.Context, next func(huma.Context)) {
	if ctx.Operation().Metadata[public] != nil {
		next(ctx)
		return
	}
	r, w := humago.Unwrap(ctx)
	c, err := d.identify(r)
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, c))
}

func (d *Door) identify(r *http.Request) (caller, error) {
	if door.Operator(r.Context()) {
		return caller{actor: "operator"}, nil
	}
	accessID, secret, ok := r.BasicAuth()
	if !ok {
		return caller{}, errNoKey
	}
	claims, err := d.Credentials.VerifyKey(r.Context(), accessID, secret)
	if err != nil {
		return caller{}, err
	}
	return caller{app: claims.App, actor: "key:" + claims.KeyID, from: address(r)}, nil
}

// errNoKey is a request that shows no credential at all.
var errNoKey = errors.New("no access id and secret key")

// refuse answers somebody who is not let in. All wrong keys look the same; a
// store that does not answer makes no key wrong.
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if err != errNoKey && token.Reason(err) == "" {
		p := d.problem(r.Context(), err)
		door.Problem(w, p.Status, p.Code, p.Detail)
		return
	}
	from := door.ClientIP(r)
	if wait, blocked := d.refusals.Blocked(from); blocked {
		door.RetryAfter(w, wait)
		door.Problem(w, http.StatusTooManyRequests, "too_many_failures", "Too many wrong keys from this address. Wait, and check the key.")
		return
	}
	if err != errNoKey {
		d.refusals.Refused(from)
		d.noteRefusal(r, err)
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="turnpike", charset="UTF-8"`)
	door.Problem(w, http.StatusUnauthorized, "unauthorized", "Sign in with HTTP Basic: an active access id and its secret key.")
}

func (d *Door) noteRefusal(r *http.Request, err error) {
	e := access.Event{
		At: d.Now(), Kind: "refused", Reason: token.Reason(err), Door: "api",
		Action: access.Manage, From: address(r), Node: d.Node,
	}
	if id, _, _ := r.BasicAuth(); token.ValidKeyID(id) {
		e.KeyID = id
	}
	if err := d.Records.Note(r.Context(), e); err != nil {
		d.Log.Error("cannot note a refusal", "error", err)
	}
}

// address is the caller's, for the audit trail; empty on the operator's socket.
func address(r *http.Request) string {
	if a := door.ClientIP(r); a.IsValid() {
		return a.String()
	}
	return ""
}

// note writes what the caller did into the audit trail.
func (d *Door) note(ctx context.Context, e access.Event) error {
	c := callerOf(ctx)
	e.At, e.Door, e.Actor, e.From, e.Node = d.Now(), "api", c.actor, c.from, d.Node
	return d.Records.Note(ctx, e)
}

// managed refuses apps that the caller does not manage as if they did not exist.
func managed(ctx context.Context, app string) error {
	if !callerOf(ctx).manages(app) {
		return notFound("app")
	}
	return nil
}

// ownApp resolves an optional app name: a key's is its own, the operator names one.
func ownApp(ctx context.Context, app string) (string, error) {
	c := callerOf(ctx)
	if app = strings.TrimSpace(app); app == "" {
		app = c.app
	}
	if app == "" {
		return "", invalid("Name the app.")
	}
	return app, managed(ctx, app)
}
