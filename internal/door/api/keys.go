package api

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// keyReader finds keys; an unknown one is token.ErrUnknown.
type keyReader interface {
	Key(ctx context.Context, id string) (token.Key, error)
	Keys(ctx context.Context, app string) ([]token.Key, error)
}

// keyWriter changes keys.
type keyWriter interface {
	AddKey(ctx context.Context, k token.Key) error
	RetireKey(ctx context.Context, id string, at time.Time) error
	RevokeKey(ctx context.Context, id string, at time.Time) error
}

// key is a token.Key without its secret.
type key struct {
	AccessID string    `json:"access_id" example:"ak-2x7fq0v9m4kd"`
	App      string    `json:"app" example:"demo"`
	Created  time.Time `json:"created"`
	Retires  time.Time `json:"retires,omitzero" doc:"End of the overlap after a rotation"`
	Revoked  bool      `json:"revoked"`
	Active   bool      `json:"active" doc:"Whether it signs and verifies right now"`
}

func (d *Door) keyOf(k token.Key) key {
	return key{AccessID: k.ID, App: k.App, Created: k.Created, Retires: k.Retires, Revoked: k.Revoked, Active: k.Active(d.Now())}
}

// newKey is the only thing on the wire that has a secret key in it.
type newKey struct {
	App       string `json:"app" example:"demo"`
	AccessID  string `json:"access_id" example:"ak-2x7fq0v9m4kd"`
	SecretKey string `json:"secret_key" doc:"Keep it: it is not shown again"`
}

type (
	keyOut  struct{ Body newKey }
	keysOut struct{ Body keyList }
	keyList struct {
		Keys []key `json:"keys"`
	}
	keyPath struct {
		AccessID string `path:"access_id" doc:"Access id of the key"`
	}

	rotateKey struct {
		AccessID string `path:"access_id" doc:"Access id of the key to replace"`
		Overlap  int    `query:"overlap" minimum:"0" maximum:"2592000" default:"86400" doc:"How long the old key lives on, in seconds; a day unless told otherwise"`
	}
)

func (d *Door) routeKeys(api huma.API) {
	add(d, api, route{
		method: http.MethodGet, path: "/apps/{app}/keys", id: "list-keys", tag: "keys",
		summary: "List the keys of an app, without their secrets",
	}, d.listKeys)
	add(d, api, route{
		method: http.MethodPost, path: "/apps/{app}/keys", id: "add-key", tag: "keys", status: http.StatusCreated,
		summary: "Add a key to an app",
		detail:  "All active keys of an app are equal. The secret key is in this answer and in no other.",
	}, d.addKey)
	add(d, api, route{
		method: http.MethodPost, path: "/keys/{access_id}/rotate", id: "rotate-key", tag: "keys", status: http.StatusCreated,
		summary: "Replace a key",
		detail:  "Makes a new key and lets the old one live for the overlap, so that back ends can change over.",
	}, d.rotateKey)
	add(d, api, route{
		method: http.MethodPost, path: "/keys/{access_id}/revoke", id: "revoke-key", tag: "keys", status: http.StatusNoContent,
		summary: "Revoke a key at once",
		detail:  "Its tokens are refused, and sessions it opened end within a second.",
	}, d.revokeKey)
}

func (d *Door) listKeys(ctx context.Context, in *appPath) (*keysOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	all, err := d.Records.Keys(ctx, in.App)
	if err != nil {
		return nil, err
	}
	list := keyList{Keys: []key{}}
	for _, k := range all {
		list.Keys = append(list.Keys, d.keyOf(k))
	}
	return &keysOut{list}, nil
}

func (d *Door) addKey(ctx context.Context, in *appPath) (*keyOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	return d.issueKey(ctx, in.App)
}

// issueKey makes a key for an app that exists.
func (d *Door) issueKey(ctx context.Context, app string) (*keyOut, error) {
	k := token.Key{ID: "ak-" + strings.ToLower(rand.Text()[:16]), App: app, Secret: token.NewSecret(), Created: d.Now()}
	if err := d.Records.AddKey(ctx, k); err != nil {
		return nil, err
	}
	err := d.note(ctx, access.Event{App: app, Kind: "created", KeyID: k.ID, Resource: "key:" + k.ID})
	return &keyOut{newKey{app, k.ID, k.Secret}}, err
}

// key fetches a key of an app that the caller manages.
func (d *Door) key(ctx context.Context, id string) (token.Key, error) {
	k, err := d.Records.Key(ctx, id)
	if err == nil && !callerOf(ctx).manages(k.App) {
		err = token.ErrUnknown
	}
	return k, unknown("key", err)
}

func (d *Door) rotateKey(ctx context.Context, in *rotateKey) (*keyOut, error) {
	old, err := d.key(ctx, in.AccessID)
	if err != nil {
		return nil, err
	}
	if !old.Active(d.Now()) {
		return nil, newProblem(http.StatusConflict, "not_active", "This key is no longer active; add a new one instead.")
	}
	fresh, err := d.issueKey(ctx, old.App)
	if err != nil {
		return nil, err
	}
	end := d.Now().Add(time.Duration(in.Overlap) * time.Second)
	if !old.Retires.IsZero() && old.Retires.Before(end) {
		end = old.Retires // a second rotation does not prolong the first
	}
	if err := d.Records.RetireKey(ctx, old.ID, end); err != nil {
		return nil, err
	}
	err = d.note(ctx, access.Event{App: old.App, Kind: "rotated", KeyID: old.ID, Resource: "key:" + old.ID})
	return fresh, err
}

func (d *Door) revokeKey(ctx context.Context, in *keyPath) (*nothing, error) {
	k, err := d.key(ctx, in.AccessID)
	if err != nil {
		return nil, err
	}
	if err := d.Records.RevokeKey(ctx, k.ID, d.Now()); err != nil {
		return nil, err
	}
	return nil, d.note(ctx, access.Event{App: k.App, Kind: "revoked", KeyID: k.ID, Resource: "key:" + k.ID})
}
