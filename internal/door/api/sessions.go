package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// sessionRecords is the list of everyone inside, on all nodes. Revoke tells the
// nodes what is void; they make those people leave.
type sessionRecords interface {
	Session(ctx context.Context, id string) (access.Entry, error)
	Sessions(ctx context.Context, app string, all bool, limit int) ([]access.Entry, error)
	End(ctx context.Context, session, reason string, voidTicket bool, at time.Time) error
	Revoke(ctx context.Context, c token.Change, until time.Time) (token.Change, error)
	Spent(ctx context.Context, tokenID string) (bool, error)
}

type (
	sessionPath struct {
		Session string `path:"session" doc:"Id of the session"`
	}
	sessionOut  struct{ Body access.Entry }
	sessionsOut struct{ Body sessionList }
	sessionList struct {
		Sessions []access.Entry `json:"sessions"`
	}
	listSessions struct {
		App   string `query:"app" doc:"Only this app's; a key sees its own in any case"`
		All   bool   `query:"all" doc:"Also those that have ended"`
		Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Most sessions in the answer; the newest come first"`
	}
)

func (d *Door) routeSessions(api huma.API) {
	add(d, api, route{
		method: http.MethodGet, path: "/sessions", id: "list-sessions", tag: "sessions",
		summary: "List who is inside",
	}, d.listSessions)
	add(d, api, route{
		method: http.MethodGet, path: "/sessions/{session}", id: "get-session", tag: "sessions",
		summary: "Show a session",
	}, d.getSession)
	add(d, api, route{
		method: http.MethodPost, path: "/sessions/{session}/end", id: "end-session", tag: "sessions", status: http.StatusNoContent,
		summary: "End a session",
		detail:  "Whoever it is leaves within a second, and the resume ticket is void. Ending it again changes nothing.",
	}, d.endSession)
}

// scope is the app a list is filtered by: a key's own, whatever it asks for must
// be that; the operator's choice, empty for all.
func scope(ctx context.Context, app string) (string, error) {
	if app == "" {
		return callerOf(ctx).app, nil
	}
	return app, managed(ctx, app)
}

func (d *Door) listSessions(ctx context.Context, in *listSessions) (*sessionsOut, error) {
	app, err := scope(ctx, in.App)
	if err != nil {
		return nil, err
	}
	all, err := d.Records.Sessions(ctx, app, in.All, in.Limit)
	if err != nil {
		return nil, err
	}
	return &sessionsOut{sessionList{append([]access.Entry{}, all...)}}, nil
}

// session fetches a session of an app that the caller manages.
func (d *Door) session(ctx context.Context, id string) (access.Entry, error) {
	s, err := d.Records.Session(ctx, id)
	if err == nil && !callerOf(ctx).manages(s.App) {
		err = token.ErrUnknown
	}
	return s, unknown("session", err)
}

func (d *Door) getSession(ctx context.Context, in *sessionPath) (*sessionOut, error) {
	s, err := d.session(ctx, in.Session)
	if err != nil {
		return nil, err
	}
	return &sessionOut{s}, nil
}

// endSession first makes the end durable, with its reason, and then tells the
// node that holds the session. Both may be repeated.
func (d *Door) endSession(ctx context.Context, in *sessionPath) (*nothing, error) {
	s, err := d.session(ctx, in.Session)
	if err != nil {
		return nil, err
	}
	now := d.Now()
	// First what makes the caller leave: what comes after it may be lost in a crash.
	change := token.Change{Kind: token.ChangeSession, App: s.App, ID: s.ID, At: now}
	if _, err := d.Records.Revoke(ctx, change, now); err != nil {
		return nil, err
	}
	if err := d.Records.End(ctx, s.ID, "kicked", true, now); err != nil {
		return nil, err
	}
	return nil, d.note(ctx, access.Event{
		App: s.App, Kind: "kicked", Session: s.ID, Subject: s.Subject, Resource: s.Target, TokenID: s.TokenID,
	})
}
