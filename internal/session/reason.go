package session

import (
	"context"
	"errors"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// Reason returns the true reason why somebody was not let in, as a stable word for
// the audit trail and metrics: a word of protocol/token.md, section 2, the text of an
// access.Denied, what the error's own method Reason() says, "draining", "cancelled",
// "timeout", or "failed" for everything else. It is "" for nil. Outside, say Code.
func Reason(err error) string {
	if err == nil {
		return ""
	}
	if word := token.Reason(err); word != "" {
		return word
	}
	var denied access.Denied
	if errors.As(err, &denied) {
		return string(denied)
	}
	var own interface {
		error
		Reason() string
	}
	switch {
	case errors.As(err, &own):
		return own.Reason()
	case errors.Is(err, ErrClosed):
		return Draining
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return Failed
}

// Code returns what somebody who was not let in may hear, the same at every door:
// "token_expired" or "token_not_yet_valid" about a token that is genuine,
// "token_refused" about any other, "forbidden" about a good one for something else,
// and "" when the error is no refusal of the credential.
func Code(err error) string {
	var denied access.Denied
	switch {
	case errors.As(err, &denied):
		return "forbidden"
	case errors.Is(err, token.ErrExpired):
		return "token_expired"
	case errors.Is(err, token.ErrNotYetValid):
		return "token_not_yet_valid"
	case token.Reason(err) != "":
		return "token_refused"
	}
	return ""
}
