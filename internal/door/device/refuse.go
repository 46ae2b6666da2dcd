package device

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
)

// errSilent is a device that did not answer in time.
const errSilent unreachable = "device_timeout"

// deviceRefusal is a device's no, with its own code.
type deviceRefusal string

func (r deviceRefusal) Error() string { return "device refused: " + string(r) }

// Reason is the word for the audit trail (session.Reason).
func (deviceRefusal) Reason() string { return "device_refused" }

// refuse answers a caller who was not served. Unknown, forged, revoked and spent
// credentials are one answer; the audit trail has the word.
func (d *Door) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var no deviceRefusal
	switch code := session.Code(err); {
	case code != "":
		d.refuseCredential(w, r, code)
	case errors.Is(err, errOffline):
		door.Problem(w, http.StatusNotFound, "device_offline", "The device is not online. The token is not spent: try again later.")
	case errors.As(err, &no):
		door.Problem(w, http.StatusBadGateway, "device_refused", "The device refused: "+string(no)+". The token is not spent.")
	case errors.Is(err, errSilent):
		door.Problem(w, http.StatusGatewayTimeout, "device_timeout", "The device did not answer in time. The token is not spent: try again.")
	case errors.Is(err, session.ErrClosed):
		refuseDraining(w)
	case errors.Is(err, context.Canceled):
		// The caller has gone; nobody reads this.
		door.Problem(w, http.StatusServiceUnavailable, "unavailable", "The request was cancelled.")
	default:
		d.log.Error("cannot serve a client", "error", err)
		door.RetryAfter(w, 5*time.Second)
		door.Problem(w, http.StatusServiceUnavailable, "unavailable", "The server cannot do this at the moment. Try again.")
	}
}

// refuseCredential turns a credential away, or asks its source to be quiet.
func (d *Door) refuseCredential(w http.ResponseWriter, r *http.Request, code string) {
	if d.quieten(w, r) {
		return
	}
	details := map[string]string{
		"token_expired":       "The token has expired. Ask your back end for a new one.",
		"token_not_yet_valid": "The token is not valid yet. Check the clock of the machine that signed it.",
		"forbidden":           "This credential does not allow it.",
	}
	detail := details[code]
	if detail == "" {
		detail = "The token was not accepted. Ask your back end for a new one."
	}
	if code == "forbidden" {
		door.Problem(w, http.StatusForbidden, code, detail)
		return
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	door.Problem(w, http.StatusUnauthorized, code, detail)
}

// quieten counts a refusal, and answers 429 when its source had too many.
func (d *Door) quieten(w http.ResponseWriter, r *http.Request) bool {
	from := door.ClientIP(r)
	if wait, blocked := d.refusals.Blocked(from); blocked {
		door.RetryAfter(w, wait)
		door.Problem(w, http.StatusTooManyRequests, "too_many_failures", "Too many refused attempts from this address. Wait, and check what you send.")
		return true
	}
	d.refused(r.Context(), from)
	return false
}

// refused counts a refusal. When it is the one too many, the audit trail says so, and
// then nothing more of this source until it is heard again: nobody may fill the disk.
func (d *Door) refused(ctx context.Context, from netip.Addr) {
	if d.refusals.Refused(from) {
		d.note(context.WithoutCancel(ctx), access.Event{Kind: "quietened", Reason: "too_many_failures", From: from.String()})
	}
}

func (d *Door) quiet(from netip.Addr) bool {
	_, blocked := d.refusals.Blocked(from)
	return blocked
}

func refuseDraining(w http.ResponseWriter) {
	door.RetryAfter(w, 2*time.Second)
	door.Problem(w, http.StatusServiceUnavailable, "draining", "This server is going away. Try again in a moment.")
}
