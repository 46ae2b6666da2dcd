package door

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Problem answers with problem details (RFC 9457): code is stable and for
// programs, detail is one sentence for people that says what to do. Neither may
// tell a stranger which part of a credential was wrong.
func Problem(w http.ResponseWriter, status int, code, detail string) {
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail,omitempty"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(status), status, detail, code})
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

// RetryAfter says in how many whole seconds, at least one, to try again. It is
// called before Problem.
func RetryAfter(w http.ResponseWriter, d time.Duration) {
	seconds := int64((d + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.FormatInt(max(1, seconds), 10))
}

// NotAllowed answers 405 with the methods that are.
func NotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	Problem(w, http.StatusMethodNotAllowed, "method_not_allowed", "This address takes "+allow+".")
}

// problems serves r, and puts the mux's own refusals (404, 405), which are plain
// text, into problem details.
func problems(mux *http.ServeMux, next http.Handler, w http.ResponseWriter, r *http.Request) {
	if _, pattern := mux.Handler(r); pattern != "" {
		next.ServeHTTP(w, r)
		return
	}
	plain := &discard{header: http.Header{}}
	next.ServeHTTP(plain, r)
	switch plain.status {
	case http.StatusMethodNotAllowed:
		NotAllowed(w, plain.header.Get("Allow"))
	case http.StatusNotFound:
		Problem(w, http.StatusNotFound, "not_found", "There is nothing at this address.")
	default:
		Problem(w, http.StatusBadRequest, "bad_request", "The address of this request makes no sense.")
	}
}

// discard keeps an answer's header and status and throws the body away.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

// What CORS lets pages of other origins send and see.
const (
	corsHeaders = "Authorization, Content-Type, If-Match"
	corsExpose  = "Location, Link, ETag, Turnpike-Resume-Ticket, Turnpike-Resume-Expires, Retry-After, WWW-Authenticate"
)

// CORS opens an address to pages of any origin, as media endpoints are: the
// permission is the bearer token, never a cookie. It answers preflights.
func CORS(methods string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", corsExpose)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", methods)
			h.Set("Access-Control-Allow-Headers", corsHeaders)
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
