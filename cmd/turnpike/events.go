package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// event is a line of the audit trail as the API shows it.
type event struct {
	At       time.Time `json:"at"`
	App      string    `json:"app,omitempty"`
	Kind     string    `json:"kind"`
	Reason   string    `json:"reason,omitempty"`
	Door     string    `json:"door,omitempty"`
	Action   string    `json:"action,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	TokenID  string    `json:"token_id,omitempty"`
	AccessID string    `json:"access_id,omitempty"`
	Session  string    `json:"session,omitempty"`
	From     string    `json:"from,omitempty"`
	Node     string    `json:"node,omitempty"`
	Actor    string    `json:"actor,omitempty"`
}

func eventsCommand(sh *shell) *cobra.Command {
	var name string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use: "events", Short: "Read the audit trail",
		Long:    "Read the audit trail, the newest event first: every admission and refusal with its\ntrue reason, and every change with who made it.",
		Example: "  turnpike events --limit 20\n  turnpike events --app garage --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if name != "" {
				query.Set("app", name)
			}
			return sh.with(c.Context(), func(l *link) error {
				var list struct{ Events []event }
				if err := l.call(c.Context(), http.MethodGet, address(query, "events"), nil, &list); err != nil {
					return fmt.Errorf("cannot read the audit trail: %w", err)
				}
				if asJSON {
					return sh.json(list.Events)
				}
				var rows [][]string
				for _, e := range list.Events {
					rows = append(rows, []string{when(e.At), e.Kind, e.Reason, e.App, e.Resource, e.Subject, e.From, e.Actor})
				}
				return sh.table("AT KIND REASON APP RESOURCE SUBJECT FROM ACTOR", rows)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().IntVar(&limit, "limit", 100, "most events to show, 1 to 1000")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
