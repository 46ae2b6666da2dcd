package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// appRecords keeps the tenants. An unknown one is token.ErrUnknown, a second of
// the same name Deps.Taken.
type appRecords interface {
	CreateApp(ctx context.Context, a token.App) error
	App(ctx context.Context, name string) (token.App, error)
	Apps(ctx context.Context) ([]token.App, error)
	SetApp(ctx context.Context, a token.App) error
}

// app is a token.App on the wire.
type app struct {
	App      string    `json:"app" example:"demo"`
	Created  time.Time `json:"created"`
	Policy   policy    `json:"policy"`
	Identity identity  `json:"identity"`
}

// policy is a token.Policy with its defaults filled in.
type policy struct {
	Skew        int  `json:"skew" example:"30" doc:"Clock skew forgiven, in seconds"`
	MaxTTL      int  `json:"max_ttl" example:"86400" doc:"Longest life of a connect token, in seconds"`
	OneKey      bool `json:"one_key" doc:"Also accept connect tokens signed without the device secret"`
	EndOnExpiry bool `json:"end_on_expiry" doc:"End a session when its token expires"`
}

// identity is a token.Identity.
type identity struct {
	Issuer   string `json:"issuer" doc:"Required iss of user tokens signed by the identity provider"`
	Audience string `json:"audience" doc:"Required aud; empty accepts any"`
	JWKSURL  string `json:"jwks_url" doc:"Where the provider publishes its public keys; empty: only tokens signed with a key of the app"`
}

func appOf(a token.App) app {
	p := a.Policy.Normal()
	return app{
		App: a.Name, Created: a.Created,
		Policy:   policy{int(p.Skew / time.Second), int(p.MaxTTL / time.Second), p.OneKey, p.EndExpiry},
		Identity: identity{a.Identity.Issuer, a.Identity.Audience, a.Identity.JWKSURL},
	}
}

type (
	appPath struct {
		App string `path:"app" doc:"Name of the app" example:"demo"`
	}
	appOut  struct{ Body app }
	appsOut struct{ Body appList }
	appList struct {
		Apps []app `json:"apps"`
	}
	createApp struct{ Body newApp }
	newApp    struct {
		App string `json:"app" example:"demo" doc:"1 to 63 lower-case letters, digits, '-' and '_'"`
	}

	setApp struct {
		App  string `path:"app" doc:"Name of the app" example:"demo"`
		Body appChange
	}
)

// appChange holds what is to change; what is left out stays.
type appChange struct {
	Policy   *policyChange   `json:"policy,omitempty"`
	Identity *identityChange `json:"identity,omitempty"`
}

type policyChange struct {
	Skew        *int  `json:"skew,omitempty" minimum:"0" maximum:"300" doc:"Seconds; 0 is the default, 30"`
	MaxTTL      *int  `json:"max_ttl,omitempty" minimum:"0" maximum:"86400" doc:"Seconds; 0 is the default, 86400"`
	OneKey      *bool `json:"one_key,omitempty"`
	EndOnExpiry *bool `json:"end_on_expiry,omitempty"`
}

type identityChange struct {
	Issuer   *string `json:"issuer,omitempty" maxLength:"512"`
	Audience *string `json:"audience,omitempty" maxLength:"512"`
	JWKSURL  *string `json:"jwks_url,omitempty" maxLength:"1024"`
}

func (d *Door) routeApps(api huma.API) {
	add(d, api, route{
		method: http.MethodPost, path: "/apps", id: "create-app", tag: "apps", status: http.StatusCreated,
		summary: "Create an app and its first key",
		detail:  "Only the operator creates apps. The secret key is in this answer and in no other.",
	}, d.createApp)
	add(d, api, route{
		method: http.MethodGet, path: "/apps", id: "list-apps", tag: "apps",
		summary: "List the apps you manage",
	}, d.listApps)
	add(d, api, route{
		method: http.MethodGet, path: "/apps/{app}", id: "get-app", tag: "apps",
		summary: "Show an app",
	}, d.getApp)
	add(d, api, route{
		method: http.MethodPatch, path: "/apps/{app}", id: "set-app", tag: "apps",
		summary: "Change an app's policy or identity provider",
		detail:  "What is left out stays as it is. Only the operator sets the JWKS URL, which the server fetches.",
	}, d.setApp)
}

func (d *Door) createApp(ctx context.Context, in *createApp) (*keyOut, error) {
	if !callerOf(ctx).operator() {
		return nil, newProblem(http.StatusForbidden, "forbidden", "Only the operator creates apps: turnpike app create NAME, on the server.")
	}
	a := token.App{Name: in.Body.App, Created: d.Now()}
	if err := checkAppName(a.Name); err != nil {
		return nil, err
	}
	if err := d.Records.CreateApp(ctx, a); err != nil {
		return nil, err
	}
	if err := d.note(ctx, access.Event{App: a.Name, Kind: "created", Resource: access.AppResource(a.Name)}); err != nil {
		return nil, err
	}
	return d.issueKey(ctx, a.Name)
}

func (d *Door) listApps(ctx context.Context, _ *nothing) (*appsOut, error) {
	all, err := d.Records.Apps(ctx)
	if err != nil {
		return nil, err
	}
	list := appList{Apps: []app{}}
	for _, a := range all {
		if callerOf(ctx).manages(a.Name) {
			list.Apps = append(list.Apps, appOf(a))
		}
	}
	return &appsOut{list}, nil
}

// app fetches an app that the caller manages.
func (d *Door) app(ctx context.Context, name string) (token.App, error) {
	if err := managed(ctx, name); err != nil {
		return token.App{}, err
	}
	a, err := d.Records.App(ctx, name)
	return a, unknown("app", err)
}

func (d *Door) getApp(ctx context.Context, in *appPath) (*appOut, error) {
	a, err := d.app(ctx, in.App)
	if err != nil {
		return nil, err
	}
	return &appOut{appOf(a)}, nil
}

func (d *Door) setApp(ctx context.Context, in *setApp) (*appOut, error) {
	a, err := d.app(ctx, in.App)
	if err != nil {
		return nil, err
	}
	in.Body.Policy.apply(&a.Policy)
	if err := in.Body.Identity.apply(&a.Identity, callerOf(ctx).operator()); err != nil {
		return nil, err
	}
	err = d.Records.SetApp(ctx, a)
	if errors.Is(err, d.Taken) {
		return nil, newProblem(http.StatusConflict, "exists", "Another app has this issuer; each identity provider belongs to one app.")
	}
	if err != nil {
		return nil, unknown("app", err)
	}
	err = d.note(ctx, access.Event{App: a.Name, Kind: "changed", Resource: access.AppResource(a.Name)})
	return &appOut{appOf(a)}, err
}

func (c *policyChange) apply(p *token.Policy) {
	if c == nil {
		return
	}
	if c.Skew != nil {
		p.Skew = time.Duration(*c.Skew) * time.Second
	}
	if c.MaxTTL != nil {
		p.MaxTTL = time.Duration(*c.MaxTTL) * time.Second
	}
	if c.OneKey != nil {
		p.OneKey = *c.OneKey
	}
	if c.EndOnExpiry != nil {
		p.EndExpiry = *c.EndOnExpiry
	}
}

// apply changes i. The server fetches the JWKS URL, so only the operator may set it:
// it would tell a tenant what answers inside the house.
func (c *identityChange) apply(i *token.Identity, operator bool) error {
	if c == nil {
		return nil
	}
	if c.Issuer != nil {
		i.Issuer = *c.Issuer
	}
	if c.Audience != nil {
		i.Audience = *c.Audience
	}
	if strings.ContainsFunc(i.Issuer+i.Audience, unicode.IsControl) {
		return invalid("issuer and audience are text without control characters.")
	}
	if c.JWKSURL != nil {
		if !operator {
			return newProblem(http.StatusForbidden, "forbidden", "Only the operator sets jwks_url: the server fetches it.")
		}
		i.JWKSURL = *c.JWKSURL
	}
	if i.JWKSURL == "" {
		return nil
	}
	u, err := url.Parse(i.JWKSURL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return invalid("jwks_url is an http or https URL without user and password.")
	}
	if i.Issuer == "" {
		return invalid("An app with a jwks_url needs an issuer, by which its user tokens are told apart.")
	}
	return nil
}
