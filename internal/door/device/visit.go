package device

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

const sessionMethods = "PATCH, POST, DELETE, OPTIONS"

// serveSession is /whep/device/{id}/{session}. The address is its own permission:
// the session's id is 128 random bits, and is good while the session lasts. Any
// node serves it.
func (d *Door) serveSession(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("Accept-Patch", fragmentType)
		w.Header().Set("Allow", sessionMethods)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if !d.beginCall() {
		refuseDraining(w)
		return
	}
	defer d.endCall()
	device, err := token.ParseRemoteID(r.PathValue("id"))
	switch {
	case err != nil:
		d.noSession(w, r)
		return
	case d.living(r, device):
	case r.Method == http.MethodDelete && d.forgo(r, device):
		w.WriteHeader(http.StatusOK)
		return
	default:
		d.noSession(w, r)
		return
	}
	id := r.PathValue("session")
	switch r.Method {
	case http.MethodPatch:
		d.trickle(w, r, device, id)
	case http.MethodPost:
		d.renew(w, r, id)
	case http.MethodDelete:
		if !d.finish(device, id, session.Deleted) {
			d.noSession(w, r)
			return
		}
		w.WriteHeader(http.StatusOK)
	default:
		door.NotAllowed(w, sessionMethods)
	}
}

// forgo is DELETE by a client that closed its connection first, so that the device
// ended the session before: what is left to delete is the resume ticket.
func (d *Door) forgo(r *http.Request, device string) bool {
	id := r.PathValue("session")
	if len(id) > signal.MaxSession {
		return false
	}
	e, err := d.deps.Records.Session(r.Context(), id)
	if err != nil || e.Door != Name || e.Target != access.DeviceResource(device) || e.Reason == session.Deleted {
		return false
	}
	if err := d.gate.Forgo(r.Context(), id); err != nil {
		d.log.Warn("cannot void a resume ticket", "session", id, "error", err)
		return false
	}
	return true
}

// living reports whether the request's session is one of the device, on any node.
func (d *Door) living(r *http.Request, device string) bool {
	id := r.PathValue("session")
	if len(id) > signal.MaxSession {
		return false
	}
	if _, ok := d.inside(device, id); ok {
		return true
	}
	e, err := d.deps.Records.Session(r.Context(), id)
	return err == nil && e.Ended.IsZero() && e.Door == Name && e.Target == access.DeviceResource(device)
}

// noSession answers for sessions that are over and for those that never were.
func (d *Door) noSession(w http.ResponseWriter, r *http.Request) {
	if d.quieten(w, r) {
		return
	}
	door.Problem(w, http.StatusNotFound, "no_such_session", "The session is over. Connect again with the resume ticket or a new token.")
}

// trickle is PATCH: it passes candidates on to the device.
func (d *Door) trickle(w http.ResponseWriter, r *http.Request, device, id string) {
	match := r.Header.Get("If-Match")
	if match == "*" { // how a restart of ICE is asked for
		refuseRestart(w)
		return
	}
	if match != "" && match != etag(id) {
		door.Problem(w, http.StatusPreconditionFailed, "precondition_failed", "If-Match is not the ETag of this session.")
		return
	}
	fragment, ok := readBody(w, r, fragmentType, signal.MaxFragment)
	if !ok {
		return
	}
	ufrag, err := checkFragment(fragment)
	if err != nil {
		door.Problem(w, http.StatusBadRequest, "malformed_sdp", "Send an SDP fragment with candidates.")
		return
	}
	reply, err := d.ask(r.Context(), device, ask{Kind: askCandidate, Session: id, Fragment: fragment, Ufrag: ufrag})
	switch {
	case err != nil:
		d.refuse(w, r, err)
	case reply.Code == codeRestart:
		refuseRestart(w)
	case reply.Code != "":
		d.noSession(w, r)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

func refuseRestart(w http.ResponseWriter) {
	door.Problem(w, http.StatusUnprocessableEntity, "ice_restart", "ICE is not restarted. Connect again with the resume ticket.")
}

// renew is POST with a resume ticket: it hands out the next one.
func (d *Door) renew(w http.ResponseWriter, r *http.Request, id string) {
	if n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1)); n > 0 || err != nil {
		door.Problem(w, http.StatusBadRequest, "bad_request", "Renew a ticket with an empty body. To connect, post to the device.")
		return
	}
	ticket, end, err := d.gate.Renew(r.Context(), id, bearer(r))
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	d.setTicket(w.Header(), ticket, end)
	w.WriteHeader(http.StatusOK)
}

// etag names the ICE session (RFC 9725, 4.3.1), of which a session has one. It is
// a hash so that it tells nothing of the address.
func etag(id string) string {
	sum := sha256.Sum256([]byte("etag\n" + id))
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}
