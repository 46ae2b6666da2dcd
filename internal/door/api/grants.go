package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// grantRecords keeps the rules of each app. Adding one twice is Deps.Taken,
// removing one that is not there token.ErrUnknown.
type grantRecords interface {
	AddRule(ctx context.Context, r access.Rule) error
	RemoveRule(ctx context.Context, r access.Rule) error
	Rules(ctx context.Context, app string) ([]access.Rule, error)
}

// grant is an access.Rule on the wire.
type grant struct {
	Subject  string        `json:"subject" example:"user-17" doc:"The user's sub; * stands for every user of the app"`
	Action   access.Action `json:"action" example:"connect"`
	Resource string        `json:"resource" example:"device:AABBCCDDEEFF" doc:"device:* stands for every device of the app"`
	Created  time.Time     `json:"created"`
}

type (
	grantOut  struct{ Body grant }
	grantsOut struct{ Body grantList }
	grantList struct {
		Grants []grant `json:"grants"`
	}

	addGrant struct {
		App  string `path:"app" doc:"Name of the app" example:"demo"`
		Body newGrant
	}
	newGrant struct {
		Subject  string        `json:"subject" example:"user-17"`
		Action   access.Action `json:"action,omitempty" default:"connect"`
		Resource string        `json:"resource" example:"device:AABBCCDDEEFF"`
	}
	removeGrant struct {
		App      string        `path:"app" doc:"Name of the app" example:"demo"`
		Subject  string        `query:"subject" required:"true"`
		Action   access.Action `query:"action" default:"connect"`
		Resource string        `query:"resource" required:"true"`
	}
)

func (d *Door) routeGrants(api huma.API) {
	add(d, api, route{
		method: http.MethodGet, path: "/apps/{app}/grants", id: "list-grants", tag: "grants",
		summary: "List who may do what in an app",
	}, d.listGrants)
	add(d, api, route{
		method: http.MethodPost, path: "/apps/{app}/grants", id: "add-grant", tag: "grants", status: http.StatusCreated,
		summary: "Allow a user something",
		detail:  "With this, /connect-token gives the user a connect token.",
	}, d.addGrant)
	add(d, api, route{
		method: http.MethodDelete, path: "/apps/{app}/grants", id: "remove-grant", tag: "grants", status: http.StatusNoContent,
		summary: "Take a grant back",
		detail:  "Sessions go on; to end those as well, revoke the subject.",
	}, d.removeGrant)
}

func (d *Door) listGrants(ctx context.Context, in *appPath) (*grantsOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	rules, err := d.Records.Rules(ctx, in.App)
	if err != nil {
		return nil, err
	}
	list := grantList{Grants: []grant{}}
	for _, r := range rules {
		list.Grants = append(list.Grants, grantOf(r))
	}
	return &grantsOut{list}, nil
}

func grantOf(r access.Rule) grant { return grant{r.Subject, r.Action, r.Resource, r.Created} }

func (d *Door) addGrant(ctx context.Context, in *addGrant) (*grantOut, error) {
	r := access.Rule{App: in.App, Subject: in.Body.Subject, Action: in.Body.Action, Resource: in.Body.Resource, Created: d.Now()}
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	if err := checkSubject(r.Subject); err != nil {
		return nil, err
	}
	if err := checkGrant(r.Action, r.Resource); err != nil {
		return nil, err
	}
	err := d.Records.AddRule(ctx, r)
	if errors.Is(err, d.Taken) {
		return nil, newProblem(http.StatusConflict, "exists", "This grant is there already.")
	}
	if err != nil {
		return nil, unknown("app", err)
	}
	return &grantOut{grantOf(r)}, d.noteGrant(ctx, r, "granted")
}

func (d *Door) removeGrant(ctx context.Context, in *removeGrant) (*nothing, error) {
	r := access.Rule{App: in.App, Subject: in.Subject, Action: in.Action, Resource: in.Resource}
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	if err := d.Records.RemoveRule(ctx, r); err != nil {
		return nil, unknown("grant", err)
	}
	return nil, d.noteGrant(ctx, r, "withdrawn")
}

func (d *Door) noteGrant(ctx context.Context, r access.Rule, kind string) error {
	return d.note(ctx, access.Event{App: r.App, Kind: kind, Subject: r.Subject, Action: r.Action, Resource: r.Resource})
}
