package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	sdk "github.com/turnpike-rtc/turnpike/device"
)

// Exit codes, documented in the help text of the root command.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// problem is an error that the management API answered with (RFC 9457).
type problem struct {
	Status int      `json:"status"`
	Code   string   `json:"code"`
	Detail string   `json:"detail"`
	Errors []string `json:"errors"`
}

func (p *problem) Error() string {
	text := fmt.Sprintf("%s (%s)", p.Detail, p.Code)
	if len(p.Errors) > 0 {
		text += ": " + strings.Join(p.Errors, "; ")
	}
	return text
}

var (
	errUnreachable = errors.New("no server runs there")
	errRefused     = errors.New("refused") // the command has said why
)

// report writes an error for people and returns the exit code that goes with it.
func (sh *shell) report(err error) int {
	if err == nil {
		return exitDone
	}
	if !errors.Is(err, errRefused) {
		fmt.Fprintf(sh.err, "turnpike: %v\n", err)
	}
	var usage usageError
	var answer *problem
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, errRefused), errors.Is(err, sdk.ErrRefused), errors.Is(err, sdk.ErrClientID), errors.Is(err, sdk.ErrServer):
		return exitRefused
	case errors.As(err, &answer) && answer.Status < http.StatusInternalServerError:
		return exitRefused
	}
	return exitFailed
}
