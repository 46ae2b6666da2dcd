package device

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/token"
)

const maxUserToken = 8192 // bytes (protocol/http.md)

// serveToken is GET /connect-token: a signed-in user asks for a connect token.
func (d *Door) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		door.NotAllowed(w, "GET, OPTIONS")
		return
	}
	if !d.beginCall() {
		refuseDraining(w)
		return
	}
	defer d.endCall()
	credential := bearer(r)
	var user token.Claims
	err := error(token.ErrMalformed)
	if credential != "" && len(credential) <= maxUserToken {
		user, err = d.deps.Authority.VerifyUser(r.Context(), credential)
	}
	if err != nil {
		d.noteIssue(r, user, "refused", session.Reason(err), "", "")
		d.refuse(w, r, err)
		return
	}
	target, given, ttl, wrong := readTokenRequest(r.URL.Query())
	if wrong != "" {
		door.Problem(w, http.StatusBadRequest, "bad_request", wrong)
		return
	}
	d.issue(w, r, user, target, given, ttl)
}

// issue hands out the token, if a rule allows it. That there is no such device
// and that there is no rule are one answer.
func (d *Door) issue(w http.ResponseWriter, r *http.Request, user token.Claims, target, given string, ttl time.Duration) {
	resource := access.DeviceResource(target)
	rules, err := d.deps.Records.Rules(r.Context(), user.App)
	if err == nil && !access.Allows(rules, user.Subject, access.Connect, resource) {
		err = access.NoRule
	}
	var raw string
	var c token.Connect
	if err == nil {
		raw, c, err = d.deps.Authority.IssueConnect(r.Context(), user.App, user.Subject, target, ttl)
	}
	if err != nil {
		d.noteIssue(r, user, "refused", session.Reason(err), resource, "")
		if errors.Is(err, token.ErrUnknown) || errors.Is(err, token.ErrDisabled) {
			err = access.NoRule
		}
		d.refuse(w, r, err)
		return
	}
	d.noteIssue(r, user, "issued", "", resource, c.ID())
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	json.NewEncoder(w).Encode(struct {
		PeerID    string `json:"peer_id"`
		RemoteID  string `json:"remote_id"`
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}{given, given, raw, int(c.Expires.Sub(c.Issued) / time.Second)})
}

// readTokenRequest reads the target, which may be named under either of two
// names, and how long the token is wanted for. wrong is a sentence for the caller.
func readTokenRequest(q url.Values) (target, given string, ttl time.Duration, wrong string) {
	const nameIt = "Name the device in peer_id or remote_id, as an id or device://id."
	for _, text := range append(q["peer_id"], q["remote_id"]...) {
		id, err := token.ParseRemoteID(text)
		switch {
		case err != nil:
			return "", "", 0, nameIt
		case target == "":
			target, given = id, text
		case id != target:
			return "", "", 0, "Name one device: peer_id and remote_id differ."
		}
	}
	if target == "" {
		return "", "", 0, nameIt
	}
	if q.Has("ttl") {
		n, err := strconv.Atoi(q.Get("ttl"))
		if err != nil || n < 1 || n > int(token.MaxConnectTTL/time.Second) {
			return "", "", 0, "ttl is a number of seconds from 1 to 86400."
		}
		ttl = time.Duration(n) * time.Second
	}
	return target, given, ttl, ""
}

func (d *Door) noteIssue(r *http.Request, user token.Claims, kind, reason, resource, tokenID string) {
	if kind == "refused" && d.quiet(door.ClientIP(r)) {
		return
	}
	d.note(context.WithoutCancel(r.Context()), access.Event{
		Kind: kind, Reason: reason, App: user.App, Action: access.Connect, Resource: resource,
		Subject: user.Subject, TokenID: tokenID, KeyID: user.KeyID, From: door.ClientIP(r).String(),
	})
}
