package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// Error is what the server answered instead of letting the client in. Use errors.As.
type Error struct {
	Status int    // HTTP status
	Code   string // stable: "token_refused", "token_expired", "forbidden", "device_offline", "device_refused", …
	Detail string // for people: what to do

	RetryAfter time.Duration // how long to wait before trying again; 0 when the server did not say
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return fmt.Sprintf("server says %d %s", e.Status, e.Code)
	}
	return fmt.Sprintf("server says %d %s: %s", e.Status, e.Code, e.Detail)
}

// final reports whether trying again with the same credential is useless.
func (e *Error) final() bool {
	return e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Code != "device_offline"
}

// session is an open WHEP session (protocol/device.md, 2).
type session struct {
	http    *http.Client
	address string // its permission to be changed and deleted: never logged
	answer  string
	servers []ICEServer

	mu      sync.Mutex // guards what follows
	ticket  string
	expires time.Time // of the ticket
}

// credential returns the resume ticket and when it ends.
func (s *session) credential() (string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ticket, s.expires
}

// post presents a credential and an offer.
func (c *Conn) post(ctx context.Context, device, credential, offer string, wanted signal.Wanted) (*session, error) {
	query := make(url.Values)
	for kind, ids := range map[media.Kind][]int{media.Video: wanted.Video, media.Audio: wanted.Audio} {
		for _, id := range ids {
			query.Add(string(kind), strconv.Itoa(id))
		}
	}
	base, err := url.Parse(c.config.Server)
	if err != nil {
		return nil, fmt.Errorf("cannot read server address: %w", err)
	}
	target := base.JoinPath("whep", "device", device)
	target.RawQuery = query.Encode()
	header := http.Header{"Content-Type": {"application/sdp"}, "Authorization": {"Bearer " + credential}}
	r, body, err := send(ctx, c.config.HTTP, http.MethodPost, target.String(), header, offer, http.StatusCreated)
	if err != nil {
		return nil, err
	}
	location, err := target.Parse(r.Header.Get("Location"))
	if err != nil || r.Header.Get("Location") == "" {
		return nil, fmt.Errorf("cannot use answer: no Location in it")
	}
	s := &session{http: c.config.HTTP, address: location.String(), answer: body, servers: links(r.Header.Values("Link"))}
	s.keep(r.Header)
	return s, nil
}

// keep takes a new ticket from an answer's headers.
func (s *session) keep(h http.Header) {
	ticket := h.Get("Turnpike-Resume-Ticket")
	seconds, err := strconv.Atoi(h.Get("Turnpike-Resume-Expires"))
	if ticket == "" || err != nil || seconds <= 0 || seconds > 86400 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticket, s.expires = ticket, time.Now().Add(time.Duration(seconds)*time.Second)
}

// renew exchanges the ticket for one that lives longer.
func (s *session) renew(ctx context.Context) error {
	ticket, _ := s.credential()
	r, _, err := send(ctx, s.http, http.MethodPost, s.address, http.Header{"Authorization": {"Bearer " + ticket}}, "", http.StatusOK)
	if err != nil {
		return err
	}
	s.keep(r.Header)
	return nil
}

// trickle adds candidates found after the offer (RFC 8840).
func (s *session) trickle(ctx context.Context, fragment string) error {
	_, _, err := send(ctx, s.http, http.MethodPatch, s.address,
		http.Header{"Content-Type": {"application/trickle-ice-sdpfrag"}}, fragment, http.StatusNoContent)
	return err
}

// delete ends the session at the server.
func (s *session) delete(ctx context.Context) error {
	_, _, err := send(ctx, s.http, http.MethodDelete, s.address, nil, "", http.StatusOK)
	return err
}

// send makes one request and turns any status but want into an *Error.
func send(ctx context.Context, h *http.Client, method, target string, header http.Header, body string, want int) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("cannot make request: %w", err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := h.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return nil, "", ctx.Err()
		}
		// The address may be a session's, which is a secret: url.Error would show it.
		if e, ok := err.(*url.Error); ok {
			err = e.Err
		}
		return nil, "", fmt.Errorf("cannot reach server: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, signal.MaxSDP+1))
	if err != nil {
		return nil, "", fmt.Errorf("cannot read answer: %w", err)
	}
	if resp.StatusCode != want {
		no := problem(resp.StatusCode, text)
		no.RetryAfter = retryAfter(resp.Header)
		return nil, "", no
	}
	if len(text) > signal.MaxSDP {
		return nil, "", fmt.Errorf("cannot use answer: longer than %d bytes", signal.MaxSDP)
	}
	return resp, string(text), nil
}

// retryAfter reads Retry-After in seconds (RFC 9110, 10.2.3), of up to an hour.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, time.Hour)
}

// problem reads RFC 9457 problem details.
func problem(status int, body []byte) *Error {
	var p struct{ Code, Detail string }
	if json.Unmarshal(body, &p) != nil || p.Code == "" {
		p.Code = "unexpected_answer"
	}
	if len(p.Code) > 64 {
		p.Code = p.Code[:64]
	}
	if len(p.Detail) > 1024 {
		p.Detail = p.Detail[:1024]
	}
	return &Error{Status: status, Code: p.Code, Detail: p.Detail}
}

// links reads the ICE servers of Link headers (draft-ietf-wish-whep, 4.4):
// <turn:host>; rel="ice-server"; username="u"; credential="c".
func links(headers []string) []ICEServer {
	var all []ICEServer
	for _, h := range headers {
		for h != "" && len(all) < signal.MaxServers {
			_, rest, found := strings.Cut(h, "<")
			address, rest, closed := strings.Cut(rest, ">")
			if !found || !closed {
				break
			}
			var params map[string]string
			params, h = linkParams(rest)
			scheme, host, _ := strings.Cut(address, ":")
			switch scheme {
			case "stun", "stuns", "turn", "turns":
				if params["rel"] == "ice-server" && host != "" {
					all = append(all, ICEServer{[]string{address}, params["username"], params["credential"]})
				}
			}
		}
	}
	return all
}

// linkParams reads ;name=value pairs up to the comma that ends a link, and returns
// what follows.
func linkParams(s string) (map[string]string, string) {
	params := make(map[string]string)
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return params, strings.TrimPrefix(s, ",")
		}
		name, rest, found := strings.Cut(strings.TrimPrefix(s, ";"), "=")
		if !found {
			return params, ""
		}
		var value string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, rest, found = strings.Cut(quoted, `"`)
			if !found {
				return params, ""
			}
		} else {
			end := strings.IndexAny(rest, ";, \t")
			if end < 0 {
				end = len(rest)
			}
			value, rest = rest[:end], rest[end:]
		}
		params[strings.ToLower(strings.TrimSpace(name))] = value
		s = rest
	}
}
