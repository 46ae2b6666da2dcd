package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// eventRecords is the audit trail. Events lists what came before the event with an
// id, the newest first; an empty id is the end, an empty app stands for all.
type eventRecords interface {
	Note(ctx context.Context, e access.Event) error
	Events(ctx context.Context, app, before string, limit int) ([]access.Event, error)
}

type (
	eventsOut struct{ Body eventList }
	eventList struct {
		Events []access.Event `json:"events"`
		Next   string         `json:"next,omitempty" doc:"Pass it as before to get the next page"`
	}
	listEvents struct {
		App    string `query:"app" doc:"Only this app's; a key sees its own in any case"`
		Before string `query:"before" maxLength:"64" doc:"Only what came before the event with this id"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most events in the answer"`
	}
)

func (d *Door) routeEvents(api huma.API) {
	add(d, api, route{
		method: http.MethodGet, path: "/events", id: "list-events", tag: "events",
		summary: "Read the audit trail, the newest event first",
		detail:  "Every admission and refusal with its true reason, and every change with who made it.",
	}, d.listEvents)
}

func (d *Door) listEvents(ctx context.Context, in *listEvents) (*eventsOut, error) {
	app, err := scope(ctx, in.App)
	if err != nil {
		return nil, err
	}
	all, err := d.Records.Events(ctx, app, in.Before, in.Limit)
	if errors.Is(err, token.ErrUnknown) {
		return nil, invalid("before is the id of an event. Begin again at the newest.")
	}
	if err != nil {
		return nil, err
	}
	list := eventList{Events: all}
	if len(all) == in.Limit {
		list.Next = all[len(all)-1].ID
	}
	return &eventsOut{list}, nil
}
