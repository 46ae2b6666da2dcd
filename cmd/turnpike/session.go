package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// session is a session as the API shows it.
type session struct {
	ID       string    `json:"id"`
	App      string    `json:"app"`
	Subject  string    `json:"subject"`
	Door     string    `json:"door"`
	Actions  []string  `json:"actions"`
	Resource string    `json:"resource"`
	From     string    `json:"from"`
	Node     string    `json:"node"`
	TokenID  string    `json:"token_id"`
	AccessID string    `json:"access_id,omitempty"`
	Started  time.Time `json:"started"`
	Expires  time.Time `json:"expires,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

func sessionCommand(sh *shell) *cobra.Command {
	return group("session", "See who is inside, and make them leave", "", sessionList(sh), sessionEnd(sh))
}

func sessionList(sh *shell) *cobra.Command {
	var name string
	var all, asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List who is inside",
		Example: "  turnpike session list\n  turnpike session list --app garage --all --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			query := url.Values{"limit": {"1000"}}
			if name != "" {
				query.Set("app", name)
			}
			if all {
				query.Set("all", "true")
			}
			return sh.with(c.Context(), func(l *link) error {
				var list struct{ Sessions []session }
				if err := l.call(c.Context(), http.MethodGet, address(query, "sessions"), nil, &list); err != nil {
					return fmt.Errorf("cannot list sessions: %w", err)
				}
				if asJSON {
					return sh.json(list.Sessions)
				}
				var rows [][]string
				for _, s := range list.Sessions {
					rows = append(rows, []string{s.ID, s.App, s.Subject, s.Resource, s.From, when(s.Started), when(s.Ended), s.Reason})
				}
				return sh.table("SESSION APP SUBJECT RESOURCE FROM STARTED ENDED REASON", rows)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&all, "all", false, "also those that have ended")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func sessionEnd(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "end SESSION", Short: "End a session",
		Long:    "End a session. Whoever it is leaves within a second and cannot come back without a new token.",
		Example: "  turnpike session end 6b1f0d3c",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), http.MethodPost, address(nil, "sessions", args[0], "end"), nil, nil); err != nil {
					return fmt.Errorf("cannot end session %q: %w", args[0], err)
				}
				return nil
			})
		},
	}
}
