package main

import (
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// key is a key as the API lists it, without its secret.
type key struct {
	AccessID string    `json:"access_id"`
	App      string    `json:"app"`
	Created  time.Time `json:"created"`
	Retires  time.Time `json:"retires,omitzero"`
	Revoked  bool      `json:"revoked"`
	Active   bool      `json:"active"`
}

func keyCommand(sh *shell) *cobra.Command {
	return group("key", "Manage an app's keys", "",
		keyAdd(sh), keyList(sh), keyRotate(sh), keyRevoke(sh))
}

func keyAdd(sh *shell) *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use: "add --app NAME", Short: "Add a key to an app",
		Long:    "Add a key to an app. All active keys are equal. The secret key is shown now and never again.",
		Example: "  turnpike key add --app garage",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app"); err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				var k newKey
				if err := l.call(c.Context(), http.MethodPost, address(nil, "apps", name, "keys"), nil, &k); err != nil {
					return fmt.Errorf("cannot add a key to app %q: %w", name, err)
				}
				return sh.showKey(k, asJSON)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func keyList(sh *shell) *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use: "list --app NAME", Short: "List an app's keys, without their secrets", Example: "  turnpike key list --app garage",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := require(c, "app"); err != nil {
				return err
			}
			return sh.with(c.Context(), func(l *link) error {
				var list struct{ Keys []key }
				if err := l.call(c.Context(), http.MethodGet, address(nil, "apps", name, "keys"), nil, &list); err != nil {
					return fmt.Errorf("cannot list the keys of app %q: %w", name, err)
				}
				if asJSON {
					return sh.json(list.Keys)
				}
				var rows [][]string
				for _, k := range list.Keys {
					rows = append(rows, []string{k.AccessID, keyState(k), when(k.Created), when(k.Retires)})
				}
				return sh.table("ACCESS-ID STATE CREATED RETIRES", rows)
			})
		},
	}
	sh.appFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func keyState(k key) string {
	switch {
	case k.Revoked:
		return "revoked"
	case !k.Active:
		return "retired"
	case !k.Retires.IsZero():
		return "retiring"
	}
	return "active"
}

func keyRotate(sh *shell) *cobra.Command {
	overlap := seconds(24 * 60 * 60)
	var asJSON bool
	c := &cobra.Command{
		Use: "rotate ACCESS-ID", Short: "Replace a key, with an overlap",
		Long: `Make a new key and let the old one live on for the overlap, so that back ends can
change over. The new secret key is shown now and never again.`,
		Example: "  turnpike key rotate ak-2x7fq0v9m4kd --overlap 2h",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{"overlap": {overlap.String()}}
			return sh.with(c.Context(), func(l *link) error {
				var k newKey
				if err := l.call(c.Context(), http.MethodPost, address(query, "keys", args[0], "rotate"), nil, &k); err != nil {
					return fmt.Errorf("cannot rotate key %q: %w", args[0], err)
				}
				return sh.showKey(k, asJSON)
			})
		},
	}
	c.Flags().Var(&overlap, "overlap", "how long the old key lives on, at most 720h")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func keyRevoke(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ACCESS-ID", Short: "Revoke a key at once",
		Long:    "Revoke a key. Its tokens are refused, and sessions it opened end within a second.",
		Example: "  turnpike key revoke ak-2x7fq0v9m4kd",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.with(c.Context(), func(l *link) error {
				if err := l.call(c.Context(), http.MethodPost, address(nil, "keys", args[0], "revoke"), nil, nil); err != nil {
					return fmt.Errorf("cannot revoke key %q: %w", args[0], err)
				}
				return nil
			})
		},
	}
}
