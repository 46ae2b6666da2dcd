package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// eventRecords is the audit trail. Events lists what happened before a moment,
// the newest first; the zero moment is the end, an empty app stands for all.
type eventRecords interface {
	Note(ctx context.Context, e access.Event) error
	Events(ctx context.Context, app string, before time.Time, limit int) ([]access.Event, error)
}

type (
	eventsOut struct{ Body eventList }
	eventList struct {
		Events []access.Event `json:"events"`
		Next   time.Time      `json:"next,omitzero" doc:"Pass it as before to get the next page"`
	}
	listEvents struct {
		App    string    `query:"app" doc:"Only this app's; a key sees its own in any case"`
		Before time.Time `query:"before" doc:"Only what happened before"`
		Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most events in the answer"`
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
	if err != nil {
		return nil, err
	}
	page, next := cut(all, in.Limit)
	return &eventsOut{eventList{append([]access.Event{}, page...), next}}, nil
}

// cut ends a full page between two moments, so that the next one, which begins
// strictly before the last event shown, misses none that happened at the same
// moment. A page of one moment cannot be cut.
func cut(all []access.Event, limit int) (page []access.Event, next time.Time) {
	if len(all) < limit {
		return all, time.Time{}
	}
	end := len(all)
	last := all[end-1].At
	for end > 0 && all[end-1].At.Equal(last) {
		end--
	}
	if end == 0 {
		end = len(all)
	}
	return all[:end], all[end-1].At
}
