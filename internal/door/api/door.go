// Package api is the door for management over HTTP: apps, keys, devices, grants,
// tokens, sessions and the audit trail, under /api/v1. The command line and the
// console are its clients.
//
// Who comes through the Unix socket in the data directory is the operator and
// manages everything. Everybody else shows an app's access id and secret key
// (HTTP Basic) and manages that app; to them, all other apps do not exist.
// Every change is an event in the audit trail, with who made it. A secret is in
// one answer only: the one that creates it.
//
// The contract is OpenAPI 3.1, generated from this code and served at
// /openapi.json. Errors are RFC 9457 problem details with a stable code.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/token"
)

// Config is the api section of the configuration. There is nothing to set yet.
type Config struct{}

// Deps is what the door works with.
type Deps struct {
	Records     records
	Credentials credentials
	Taken       error // what Records answers when a name is taken
	Version     string
	Node        string   // id of this node
	Doors       []string // names of the doors that are open
	Now         func() time.Time
	Log         *slog.Logger
}

// records is the store, as one interface per noun; each is declared in the file
// of its noun.
type records interface {
	appRecords
	keyReader
	keyWriter
	deviceReader
	deviceWriter
	grantRecords
	sessionRecords
	eventRecords
}

// credentials is the token authority.
type credentials interface {
	// VerifyKey checks an app's access id and secret key.
	VerifyKey(ctx context.Context, accessID, secret string) (token.Claims, error)
	// Verify checks a connect token or a resume ticket and spends nothing.
	Verify(ctx context.Context, raw string) (token.Claims, error)
	// IssueConnect signs a connect token with the app's newest active key; a ttl longer
	// than the app allows is cut. token.ErrUnknown without such a device in the app.
	IssueConnect(ctx context.Context, app, subject, deviceID string, ttl time.Duration) (string, token.Connect, error)
}

// Door serves the management API.
type Door struct {
	Deps
	refusals *door.Limiter
	routes   routes
	spec     []byte // /openapi.json
}

// New returns the door, or an error when the API cannot be described.
func New(_ Config, deps Deps) (*Door, error) {
	d := &Door{Deps: deps, refusals: door.NewLimiter(deps.Now), routes: routes{ServeMux: http.NewServeMux()}}
	api := huma.NewAPI(describe(deps.Version), humago.NewAdapter(&d.routes, ""))
	api.UseMiddleware(d.authenticate)
	d.routeAbout(api)
	d.routeApps(api)
	d.routeKeys(api)
	d.routeDevices(api)
	d.routeGrants(api)
	d.routeTokens(api)
	d.routeSessions(api)
	d.routeEvents(api)
	spec, err := json.Marshal(api.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("cannot describe the management API: %w", err)
	}
	d.spec = spec
	return d, nil
}

// routes is a mux that remembers its patterns, so that the shared one can have
// each of them and knows by itself what is not there.
type routes struct {
	*http.ServeMux
	patterns []string
}

// HandleFunc adds one operation.
func (r *routes) HandleFunc(pattern string, serve func(http.ResponseWriter, *http.Request)) {
	r.patterns = append(r.patterns, pattern)
	r.ServeMux.HandleFunc(pattern, serve)
}

// Mount adds the API and its description to the shared listener.
func (d *Door) Mount(mux *http.ServeMux) {
	for _, pattern := range d.routes.patterns {
		mux.HandleFunc(pattern, d.serve)
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(d.spec) // fails when the client went away
	})
}

// Serve blocks until ctx ends. The door has no goroutines of its own.
func (d *Door) Serve(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (d *Door) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // answers hold secrets, or what is true just now
	// A browser that remembers a key must not be driven from a page of another site.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		door.Problem(w, http.StatusForbidden, "cross_origin", "Send changes from your back end, not from a page of another site.")
		return
	}
	d.routes.ServeHTTP(w, r)
}
