package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// keepRevoked is how long a revocation is remembered when nobody knows which
// token it is about: no token outlives it.
const keepRevoked = token.MaxConnectTTL + token.MaxSkew + time.Minute

type (
	issueToken struct {
		App  string `path:"app" doc:"Name of the app" example:"demo"`
		Body newToken
	}
	newToken struct {
		Subject  string `json:"subject" example:"user-17" doc:"Who will connect"`
		RemoteID string `json:"remote_id" example:"AABBCCDDEEFF" doc:"Which device: its id, or device://<id>"`
		TTL      int    `json:"ttl,omitempty" minimum:"1" maximum:"86400" default:"300" doc:"Seconds until it expires; cut to what the app allows"`
	}
	issuedOut struct{ Body issuedToken }

	// issuedToken is the only thing on the wire that has a token in it.
	issuedToken struct {
		Token     string    `json:"token" doc:"Give it to the client; it opens the device once"`
		TokenID   string    `json:"token_id" doc:"Name of the token in the audit trail, and for revoking it"`
		RemoteID  string    `json:"remote_id"`
		ExpiresIn int       `json:"expires_in" doc:"Seconds"`
		Expires   time.Time `json:"expires"`
	}

	rawToken struct {
		Body struct {
			Token string `json:"token" maxLength:"2048" doc:"A connect token or a resume ticket"`
		} `nameHint:"VerifyToken"`
	}
	verdictOut struct{ Body verdict }

	revokeToken struct{ Body revocation }
	revocation  struct {
		Token   string `json:"token,omitempty" maxLength:"2048" doc:"The connect token itself"`
		TokenID string `json:"token_id,omitempty" maxLength:"64" doc:"Or its id, from the audit trail"`
		App     string `json:"app,omitempty" doc:"Which app's; the operator needs it with a token_id"`
	}
	revokeSubject struct {
		App  string `path:"app" doc:"Name of the app" example:"demo"`
		Body struct {
			Subject string `json:"subject" example:"user-17"`
		} `nameHint:"RevokeSubject"`
	}
)

// verdict says whether a token would open its device now.
type verdict struct {
	Valid    bool      `json:"valid"`
	Reason   string    `json:"reason,omitempty" example:"expired" doc:"Why it is refused: a word of protocol/token.md"`
	Kind     string    `json:"kind,omitempty" example:"connect_token"`
	TokenID  string    `json:"token_id,omitempty"`
	App      string    `json:"app,omitempty"`
	AccessID string    `json:"access_id,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Resource string    `json:"resource,omitempty" example:"device:AABBCCDDEEFF"`
	Issued   time.Time `json:"issued,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
}

func (d *Door) routeTokens(api huma.API) {
	add(d, api, route{
		method: http.MethodPost, path: "/apps/{app}/tokens", id: "issue-token", tag: "tokens", status: http.StatusCreated,
		summary: "Issue a connect token",
		detail: "Signed with the newest active key of the app. Back ends usually sign by themselves and need no " +
			"request for it; see protocol/token.md.",
	}, d.issueToken)
	add(d, api, route{
		method: http.MethodPost, path: "/tokens/verify", id: "verify-token", tag: "tokens",
		summary: "Check a token without spending it",
		detail:  "Says what is wrong with a token, which the doors never tell. A token of another app is unknown.",
	}, d.verifyToken)
	add(d, api, route{
		method: http.MethodPost, path: "/tokens/revoke", id: "revoke-token", tag: "tokens", status: http.StatusNoContent,
		summary: "Revoke a token",
		detail:  "It is refused from now on, and a session it opened ends within a second.",
	}, d.revokeToken)
	add(d, api, route{
		method: http.MethodPost, path: "/apps/{app}/subjects/revoke", id: "revoke-subject", tag: "tokens", status: http.StatusNoContent,
		summary: "Revoke everything a subject has",
		detail:  "Tokens issued to the subject until now are refused, and its sessions end within a second. Later tokens are good.",
	}, d.revokeSubject)
}

func (d *Door) issueToken(ctx context.Context, in *issueToken) (*issuedOut, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	if err := checkSubject(in.Body.Subject); err != nil {
		return nil, err
	}
	id, err := token.ParseRemoteID(in.Body.RemoteID)
	if err != nil {
		return nil, invalid("remote_id is a device id, or device://<id>.")
	}
	raw, c, err := d.Credentials.IssueConnect(ctx, in.App, in.Body.Subject, id, time.Duration(in.Body.TTL)*time.Second)
	if err != nil {
		return nil, unknown("device", err)
	}
	err = d.note(ctx, access.Event{
		App: in.App, Kind: "issued", Action: access.Connect, Resource: access.DeviceResource(id),
		Subject: c.Subject, TokenID: c.ID(), KeyID: c.KeyID,
	})
	return &issuedOut{issuedToken{raw, c.ID(), in.Body.RemoteID, int(c.Expires.Sub(c.Issued) / time.Second), c.Expires}}, err
}

func (d *Door) verifyToken(ctx context.Context, in *rawToken) (*verdictOut, error) {
	if known, err := d.ours(ctx, in.Body.Token); err != nil || !known {
		return &verdictOut{verdict{Reason: token.Reason(token.ErrUnknown)}}, err
	}
	c, err := d.Credentials.Verify(ctx, in.Body.Token)
	if err == nil && !callerOf(ctx).manages(c.App) {
		err = token.ErrUnknown
	}
	if reason := token.Reason(err); reason != "" {
		return &verdictOut{verdict{Reason: reason}}, nil
	}
	if err != nil {
		return nil, err
	}
	if spent, err := d.spent(ctx, c); spent || err != nil {
		return &verdictOut{verdict{Reason: token.Reason(token.ErrSpent)}}, err
	}
	return &verdictOut{verdict{
		Valid: true, Kind: string(c.Kind), TokenID: c.ID, App: c.App, AccessID: c.KeyID, Subject: c.Subject,
		Resource: c.Resource, Issued: c.Issued, Expires: c.Expires,
	}}, nil
}

func (d *Door) spent(ctx context.Context, c token.Claims) (bool, error) {
	if !c.Once {
		return false, nil
	}
	return d.Records.Spent(ctx, c.ID)
}

// ours reports whether the caller may hear what is wrong with a token: when it is
// not a connect token by its form, or its key is of an app that the caller manages.
func (d *Door) ours(ctx context.Context, raw string) (bool, error) {
	p, err := token.ParseConnect(raw)
	if err != nil || callerOf(ctx).operator() {
		return true, nil
	}
	_, err = d.key(ctx, p.KeyID)
	var gone *problem
	if errors.As(err, &gone) {
		return false, nil
	}
	return err == nil, err
}

func (d *Door) revokeToken(ctx context.Context, in *revokeToken) (*nothing, error) {
	c := token.Change{Kind: token.ChangeToken, ID: in.Body.TokenID, At: d.Now()}
	switch {
	case (in.Body.Token == "") == (in.Body.TokenID == ""):
		return nil, invalid("Name the token or its token_id, one of the two.")
	case in.Body.Token != "":
		p, err := token.ParseConnect(in.Body.Token)
		if err != nil {
			return nil, invalid("This is no connect token. To make the holder of a resume ticket leave, end the session.")
		}
		k, err := d.key(ctx, p.KeyID)
		if err != nil {
			return nil, err
		}
		c.ID, c.App = p.ID(), k.App
	default:
		app, err := ownApp(ctx, in.Body.App)
		if err != nil {
			return nil, err
		}
		if _, err := d.app(ctx, app); err != nil {
			return nil, err
		}
		c.App = app
	}
	if _, err := d.Records.Revoke(ctx, c, c.At.Add(keepRevoked)); err != nil {
		return nil, err
	}
	return nil, d.note(ctx, access.Event{App: c.App, Kind: "revoked", Resource: access.AppResource(c.App), TokenID: c.ID})
}

func (d *Door) revokeSubject(ctx context.Context, in *revokeSubject) (*nothing, error) {
	if _, err := d.app(ctx, in.App); err != nil {
		return nil, err
	}
	if err := checkSubject(in.Body.Subject); err != nil {
		return nil, err
	}
	c := token.Change{Kind: token.ChangeSubject, App: in.App, ID: in.Body.Subject, At: d.Now()}
	if _, err := d.Records.Revoke(ctx, c, c.At.Add(keepRevoked)); err != nil {
		return nil, err
	}
	return nil, d.note(ctx, access.Event{App: c.App, Kind: "revoked", Resource: access.AppResource(c.App), Subject: c.ID})
}
