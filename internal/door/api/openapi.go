package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// prefix is the root of the API; a change that breaks clients gets another one.
const prefix = "/api/v1"

// maxBody bounds a request body, in bytes (protocol/http.md).
const maxBody = 64 << 10

const overview = `Manage a Turnpike server: its apps, keys, devices, grants, tokens and sessions.

Sign in with HTTP Basic: the access id is the user name, the secret key the password. A key manages the app
it belongs to and sees no other. The operator, who comes through the Unix socket in the data directory,
manages everything and needs no key.

Times are RFC 3339, durations are whole seconds. Lists that can grow are cut into pages: while an answer has
a "next", ask again with it. Errors are problem details (RFC 9457); their "code" is stable, their "detail"
says what to do. A secret is shown once, in the answer that creates it.`

// describe is the frame of the OpenAPI document. The routes fill it.
func describe(version string) huma.Config {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	schemas.RegisterTypeAlias(reflect.TypeFor[huma.ErrorModel](), reflect.TypeFor[problem]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Turnpike management API", Version: version, Description: overview,
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "basic", Description: "access_id and secret_key of the app"},
				},
			},
			Security: []map[string][]string{{"key": {}}},
			Tags: []*huma.Tag{
				{Name: "about", Description: "What runs here."},
				{Name: "apps", Description: "Tenants, their policy and their identity provider."},
				{Name: "keys", Description: "Access ids and secret keys: several per app, rotated with an overlap."},
				{Name: "devices", Description: "Devices, their licenses and their presence."},
				{Name: "grants", Description: "Which user may do what: the rules behind /connect-token."},
				{Name: "tokens", Description: "Issue, check and revoke connect tokens."},
				{Name: "sessions", Description: "Who is inside, and how to make them leave."},
				{Name: "events", Description: "The audit trail."},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{withCode},
	}
}

// route is what one operation says about itself.
type route struct {
	method, path string // the path continues prefix
	id, tag      string
	summary      string // one line, imperative
	detail       string // what one line cannot say; may be empty
	status       int    // of success; 0 means 200
	public       bool   // needs no credential
}

// refusals lists the statuses, beside that of success, with which the operation may
// answer; the code in the body says more.
func (r route) refusals() []int {
	all := []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable}
	if !r.public {
		all = append(all, http.StatusUnauthorized, http.StatusNotFound, http.StatusTooManyRequests)
	}
	if r.method != http.MethodGet {
		all = append(all, http.StatusBadRequest, http.StatusForbidden, http.StatusConflict,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return all
}

// add registers an operation. Errors of f become problem details.
func add[I, O any](d *Door, api huma.API, r route, f func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		Method: r.method, Path: prefix + r.path, OperationID: r.id, Tags: []string{r.tag},
		Summary: r.summary, Description: r.detail, DefaultStatus: r.status, MaxBodyBytes: maxBody,
	}
	if op.DefaultStatus == 0 {
		op.DefaultStatus = http.StatusOK
	}
	op.Errors = r.refusals()
	if r.public {
		op.Security = []map[string][]string{} // the empty list lifts the document's rule
		op.Metadata = map[string]any{public: true}
	}
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, d.problem(ctx, err)
		}
		return out, nil
	})
}

// public marks operations that need no credential.
const public = "public"

// nothing is the input or the answer of operations that have none.
type nothing struct{}
