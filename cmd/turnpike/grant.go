package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// grant is a rule as the API shows it.
type grant struct {
	Subject  string    `json:"subject"`
	Action   string    `json:"action"`
	Resource string    `json:"resource"`
	Created  time.Time `json:"created"`
}

func grantCommand(sh *shell) *cobra.Command {
	return group("grant", "Manage which user may connect to which device", `
Grants are the rules behind GET /connect-token: a signed-in user whom a grant names
gets a connect token for the device. Back ends that sign tokens themselves need none.`,
		grantAdd(sh), grantList(sh), grantRemove(sh))
}

func grantAdd(sh *shell) *cobra.Command {
	var name, subject, target string
	c := &cobra.Command{
		Use: "add --app NAME --sub SUBJECT --device ID", Short: "Let a user connect to a device",
		Example: `  turnpike grant add --app garage --sub user-17 --device CAM01
  turnpike grant add --app garage --sub user-17 --device '*'    # every device of the app`,
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app", "sub", "device"); err != nil {
				return err
			}
			body := map[string]string{"subject": subject, "action": "connect", "resource": "device:" + target}
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), http.MethodPost, address(nil, "apps", name, "grants"), body, nil); err != nil {
					return fmt.Errorf("cannot add the grant: %w", err)
				}
				return nil
			})
		},
	}
	sh.grantFlags(c, &name, &subject, &target)
	return c
}

func (sh *shell) grantFlags(c *cobra.Command, app, subject, device *string) {
	sh.appFlag(c, app)
	c.Flags().StringVar(subject, "sub", "", "the user's sub; * stands for every user of the app")
	c.Flags().StringVar(device, "device", "", "device id; * stands for every device of the app")
	complete(c, "device", sh.completeDevices)
}

func grantList(sh *shell) *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use: "list --app NAME", Short: "List an app's grants", Example: "  turnpike grant list --app garage",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app"); err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				var list struct{ Grants []grant }
				if err := l.call(c.Context(), http.MethodGet, address(nil, "apps", name, "grants"), nil, &list); err != nil {
					return fmt.Errorf("cannot list the grants of app %q: %w", name, err)
				}
				if asJSON {
					return sh.json(list.Grants)
				}
				var rows [][]string
				for _, g := range list.Grants {
					rows = append(rows, []string{g.Subject, g.Action, g.Resource, when(g.Created)})
				}
				return sh.table("SUBJECT ACTION RESOURCE CREATED", rows)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func grantRemove(sh *shell) *cobra.Command {
	var name, subject, target string
	c := &cobra.Command{
		Use: "remove --app NAME --sub SUBJECT --device ID", Short: "Take a grant back",
		Long:    "Take a grant back. Sessions go on; turnpike token revoke --sub ends those as well.",
		Example: "  turnpike grant remove --app garage --sub user-17 --device CAM01",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app", "sub", "device"); err != nil {
				return err
			}
			query := url.Values{"subject": {subject}, "action": {"connect"}, "resource": {"device:" + target}}
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), http.MethodDelete, address(query, "apps", name, "grants"), nil, nil); err != nil {
					return fmt.Errorf("cannot remove the grant: %w", err)
				}
				return nil
			})
		},
	}
	sh.grantFlags(c, &name, &subject, &target)
	return c
}
