package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/turnpike-rtc/turnpike/token"
)

// problem is every error this API answers with (RFC 9457).
type problem struct {
	Type   string   `json:"type" example:"about:blank"`
	Title  string   `json:"title" example:"Not Found"`
	Status int      `json:"status" example:"404"`
	Code   string   `json:"code" example:"not_found" doc:"Stable; programs decide by it"`
	Detail string   `json:"detail" example:"There is no such device; turnpike device list shows what there is." doc:"What to do, for people"`
	Errors []string `json:"errors,omitempty" doc:"What is wrong with which part of the request"`
}

func newProblem(status int, code, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Error makes a problem an error, so that operations can return one.
func (p *problem) Error() string { return p.Detail }

// GetStatus makes it an error of the HTTP library.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is RFC 9457's, whatever the client asked for.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// notFound answers for what does not exist and for what belongs to somebody else.
func notFound(noun string) *problem {
	return newProblem(http.StatusNotFound, "not_found", fmt.Sprintf("There is no such %s, or it is not yours; list what there is and check the name.", noun))
}

// unknown makes token.ErrUnknown say what was not found; other errors stay.
func unknown(noun string, err error) error {
	if errors.Is(err, token.ErrUnknown) {
		return notFound(noun)
	}
	return err
}

func invalid(detail string) *problem {
	return newProblem(http.StatusUnprocessableEntity, "invalid", detail)
}

// problem turns an error of the floors below into an answer. What it does not
// know is a fault of the server: it is logged, and the answer says nothing of it.
func (d *Door) problem(ctx context.Context, err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, token.ErrUnknown):
		return notFound("record")
	case errors.Is(err, token.ErrDisabled):
		return newProblem(http.StatusConflict, "disabled", "The device or the app's key is disabled; enable it or add a key.")
	case errors.Is(err, token.ErrMalformed):
		return invalid("A name or an id is not of the required form.")
	case errors.Is(err, d.Taken):
		return newProblem(http.StatusConflict, "exists", "This name is taken; choose another.")
	case ctx.Err() != nil:
		return newProblem(http.StatusServiceUnavailable, "cancelled", "The request was given up; try again.")
	}
	d.Log.Error("cannot carry out a management request", "error", err)
	return newProblem(http.StatusInternalServerError, "internal", "The server failed; its log says why. Try again later.")
}

// withCode gives the errors that the HTTP library makes by itself (validation,
// body too large) the form of all others. Values are left out: they may be secrets.
func withCode(_ huma.Context, _ string, v any) (any, error) {
	e, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := newProblem(e.Status, "", "")
	p.Code, p.Detail = wording(e.Status)
	if e.Status >= http.StatusInternalServerError {
		return p, nil
	}
	for _, fault := range e.Errors {
		if e.Status == http.StatusUnprocessableEntity || fault.Location != "body" {
			p.Errors = append(p.Errors, strings.TrimPrefix(fault.Location+": "+fault.Message, ": "))
		}
	}
	return p, nil
}

// wording is the code and the advice for a status that the HTTP library chose.
func wording(status int) (code, detail string) {
	switch status {
	case http.StatusBadRequest:
		return "malformed", "The body is missing or is not JSON; send one JSON object as /openapi.json describes it."
	case http.StatusUnprocessableEntity:
		return "invalid", "Something in the request is not as it must be; see errors, and /openapi.json."
	case http.StatusRequestEntityTooLarge:
		return "too_large", fmt.Sprintf("Send at most %d bytes.", maxBody)
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type", "Send the body as application/json."
	case http.StatusRequestTimeout:
		return "timeout", "The body did not arrive in time; send it at once."
	case http.StatusNotAcceptable:
		return "not_acceptable", "Ask for application/json."
	}
	return "internal", "The server failed; its log says why. Try again later."
}
