package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
	"github.com/turnpike-rtc/turnpike/internal/signal"
	"github.com/turnpike-rtc/turnpike/token"
)

const (
	sdpType      = "application/sdp"
	fragmentType = "application/trickle-ice-sdpfrag"

	wayPatience = time.Second // for the way between two nodes
)

// call is one client's attempt to connect.
type call struct {
	*Door
	device  string
	offer   string
	ufrag   string
	streams *signal.Wanted
}

// serveTarget is /whep/device/{id}.
func (d *Door) serveTarget(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		d.connect(w, r)
	case http.MethodOptions:
		w.Header().Set("Accept-Post", sdpType)
		w.Header().Set("Allow", "POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
	default:
		door.NotAllowed(w, "POST, OPTIONS")
	}
}

func (d *Door) beginCall() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		return false
	}
	d.calls.Add(1)
	return true
}

func (d *Door) endCall() { d.calls.Done() }

// connect is POST: credential, session, offer, answer.
func (d *Door) connect(w http.ResponseWriter, r *http.Request) {
	credential := bearer(r)
	if credential == "" {
		d.refuse(w, r, token.ErrMalformed)
		return
	}
	c, ok := d.readCall(w, r)
	if !ok {
		return
	}
	if !d.beginCall() { // not before the body is here: a slow one must not hold up the drain
		refuseDraining(w)
		return
	}
	defer d.endCall()
	from := door.ClientIP(r)
	request := access.Request{
		Action: access.Connect, Resource: access.DeviceResource(c.device), Door: Name, From: from.String(), Quiet: d.quiet(from),
	}
	s, err := d.gate.AdmitWhen(r.Context(), credential, request, func(ctx context.Context, _ access.Grant) error {
		return c.reachable(ctx)
	})
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	answer, err := c.negotiate(r.Context(), s)
	if err != nil {
		d.counts.offer(session.Reason(err))
		d.refuse(w, r, err)
		return
	}
	d.watch(s)
	d.counts.offer("answered")
	h := w.Header()
	h.Set("Content-Type", sdpType)
	h.Set("Location", "/whep/device/"+c.device+"/"+s.ID)
	h.Set("ETag", etag(s.ID))
	for _, server := range d.iceServers(hostOf(r)) {
		for _, u := range server.URLs {
			h.Add("Link", "<"+u+`>; rel="ice-server"`)
		}
	}
	ticket, end := s.Ticket()
	d.setTicket(h, ticket, end)
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, answer)
}

// readCall reads and checks what does not depend on the credential. When it fails
// it has answered.
func (d *Door) readCall(w http.ResponseWriter, r *http.Request) (*call, bool) {
	id, err := token.ParseRemoteID(r.PathValue("id"))
	if err != nil {
		door.Problem(w, http.StatusNotFound, "not_found", "This is no device id.")
		return nil, false
	}
	body, ok := readBody(w, r, sdpType, signal.MaxSDP)
	if !ok {
		return nil, false
	}
	c := &call{Door: d, device: id, offer: body}
	if c.ufrag, err = checkOffer(body); err != nil {
		door.Problem(w, http.StatusBadRequest, "malformed_sdp", "Send an SDP offer with media sections, ICE credentials and a DTLS fingerprint.")
		return nil, false
	}
	if c.streams, err = wanted(r.URL.Query()); err != nil {
		door.Problem(w, http.StatusBadRequest, "bad_request", "The stream ids in video= and audio= are numbers from 0 to 255.")
		return nil, false
	}
	return c, true
}

// wanted reads the streams a client chooses.
func wanted(q url.Values) (*signal.Wanted, error) {
	if !q.Has("video") && !q.Has("audio") {
		return nil, nil
	}
	read := func(texts []string) (ids []int, err error) {
		for _, t := range texts {
			n, err := strconv.Atoi(t)
			if err != nil || n < 0 || n > 255 || len(ids) == signal.MaxStreams {
				return nil, errors.New("cannot read stream id")
			}
			ids = append(ids, n)
		}
		return ids, nil
	}
	video, err := read(q["video"])
	if err != nil {
		return nil, err
	}
	audio, err := read(q["audio"])
	return &signal.Wanted{Video: video, Audio: audio}, err
}

// reachable is the door's own condition for letting a client in: an offer that
// cannot arrive must not cost a token.
func (c *call) reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	_, err := c.ask(ctx, c.device, ask{Kind: askReady})
	return err
}

// negotiate takes the offer to the device and brings back its answer. When it
// fails it has taken the admission back, so that the token is good again.
func (c *call) negotiate(client context.Context, s *session.Session) (string, error) {
	ctx, cancel := context.WithTimeout(client, c.patience.answer+wayPatience)
	defer cancel()
	defer context.AfterFunc(s.Context(), cancel)() // revoked while the device thinks
	answer, err := c.exchange(ctx, s)
	if s.Context().Err() != nil {
		c.tellEnd(c.device, s.ID, s.Reason())
		return "", fmt.Errorf("cannot connect: %w", token.ErrRevoked)
	}
	if err != nil {
		s.Abort(session.Reason(err))
		if !errors.Is(err, errOffline) {
			c.tellEnd(c.device, s.ID, session.Failed)
		}
		return "", err
	}
	return answer, nil
}

// exchange is one offer and one answer.
func (c *call) exchange(ctx context.Context, s *session.Session) (string, error) {
	r, err := c.ask(ctx, c.device, ask{
		Kind: askOffer, Session: s.ID, SDP: c.offer, Ufrag: c.ufrag, Subject: s.Grant.Subject, Streams: c.streams,
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "", errSilent
	case err != nil:
		return "", err
	case r.Code == codeTimeout:
		return "", errSilent
	case r.Code != "":
		return "", deviceRefusal(r.Detail)
	case checkAnswer(r.SDP) != nil:
		return "", deviceRefusal("bad_answer")
	}
	return r.SDP, nil
}

func (d *Door) setTicket(h http.Header, ticket string, end time.Time) {
	if ticket == "" {
		return
	}
	h.Set("Turnpike-Resume-Ticket", ticket)
	h.Set("Turnpike-Resume-Expires", strconv.Itoa(max(0, int(end.Sub(d.deps.Now()).Round(time.Second)/time.Second))))
	h.Set("Cache-Control", "no-store")
}

// readBody reads a whole body of the given type. When it fails it has answered.
func readBody(w http.ResponseWriter, r *http.Request, kind string, most int64) (string, bool) {
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != kind {
		door.Problem(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "Send "+kind+".")
		return "", false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		door.Problem(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("Send at most %d bytes.", most))
		return "", false
	case err != nil:
		door.Problem(w, http.StatusBadRequest, "bad_request", "The body broke off.")
		return "", false
	}
	return string(b), true
}

// bearer is the credential of a request (RFC 6750, 2.1); empty when there is none.
func bearer(r *http.Request) string {
	scheme, credential, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(credential)
}
