package main

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// app is an app as the API shows it.
type app struct {
	App     string    `json:"app"`
	Created time.Time `json:"created"`
	Policy  struct {
		Skew        int  `json:"skew"`
		MaxTTL      int  `json:"max_ttl"`
		OneKey      bool `json:"one_key"`
		EndOnExpiry bool `json:"end_on_expiry"`
	} `json:"policy"`
	Identity struct {
		Issuer   string `json:"issuer"`
		Audience string `json:"audience"`
		JWKSURL  string `json:"jwks_url"`
	} `json:"identity"`
}

// newKey is a key with its secret, which the API shows once.
type newKey struct {
	App       string `json:"app"`
	AccessID  string `json:"access_id"`
	SecretKey string `json:"secret_key"`
}

func appCommand(sh *shell) *cobra.Command {
	return group("app", "Manage apps: tenants with keys, devices and grants", "",
		appCreate(sh), appList(sh), appShow(sh), appSet(sh))
}

func appCreate(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "create NAME", Short: "Create an app and its first key",
		Long:    "Create an app and its first key. The secret key is shown now and never again.",
		Example: "  turnpike app create garage\n  turnpike app create garage --json | jq -r .secret_key",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return sh.with(c.Context(), func(l *link) error {
				var k newKey
				if err := l.call(c.Context(), http.MethodPost, "/apps", map[string]string{"app": args[0]}, &k); err != nil {
					return fmt.Errorf("cannot create app %q: %w", args[0], err)
				}
				return sh.showKey(k, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func (sh *shell) showKey(k newKey, asJSON bool) error {
	if asJSON {
		return sh.line(k)
	}
	return sh.card("app", k.App, "access id", k.AccessID, "secret key", k.SecretKey+"  (shown only now: keep it)")
}

func appList(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List apps", Example: "  turnpike app list",
		Args: arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return sh.with(c.Context(), func(l *link) error {
				var list struct{ Apps []app }
				if err := l.call(c.Context(), http.MethodGet, "/apps", nil, &list); err != nil {
					return fmt.Errorf("cannot list apps: %w", err)
				}
				if asJSON {
					return sh.json(list.Apps)
				}
				var rows [][]string
				for _, a := range list.Apps {
					rows = append(rows, []string{a.App, when(a.Created), a.Identity.Issuer})
				}
				return sh.table("APP CREATED ISSUER", rows)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func appShow(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show NAME", Short: "Show an app's policy and identity provider", Example: "  turnpike app show garage",
		Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: sh.completeApps,
		RunE: func(c *cobra.Command, args []string) error {
			return sh.with(c.Context(), func(l *link) error {
				var a app
				if err := l.call(c.Context(), http.MethodGet, address(nil, "apps", args[0]), nil, &a); err != nil {
					return fmt.Errorf("cannot show app %q: %w", args[0], err)
				}
				return sh.showApp(a, asJSON)
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func (sh *shell) showApp(a app, asJSON bool) error {
	if asJSON {
		return sh.json(a)
	}
	return sh.card("app", a.App, "created", when(a.Created),
		"skew", strconv.Itoa(a.Policy.Skew)+" s", "max ttl", strconv.Itoa(a.Policy.MaxTTL)+" s",
		"one key", yes(a.Policy.OneKey), "end on expiry", yes(a.Policy.EndOnExpiry),
		"issuer", a.Identity.Issuer, "audience", a.Identity.Audience, "jwks url", a.Identity.JWKSURL)
}

func appSet(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "set NAME", Short: "Change an app's policy or identity provider",
		Long: "Change an app's policy or identity provider. What you do not name stays as it is.",
		Example: `  turnpike app set garage --max-ttl 1h --end-on-expiry
  turnpike app set garage --issuer https://id.example.com --jwks-url https://id.example.com/jwks.json`,
		Args: arguments(cobra.ExactArgs(1)), ValidArgsFunction: sh.completeApps,
		RunE: func(c *cobra.Command, args []string) error {
			change := appChange(c)
			if len(change) == 0 {
				return usageError{fmt.Errorf("cannot change app %q: name at least one setting; see turnpike app set --help", args[0])}
			}
			return sh.with(c.Context(), func(l *link) error {
				var a app
				if err := l.call(c.Context(), http.MethodPatch, address(nil, "apps", args[0]), change, &a); err != nil {
					return fmt.Errorf("cannot change app %q: %w", args[0], err)
				}
				return sh.showApp(a, asJSON)
			})
		},
	}
	f := c.Flags()
	f.Var(new(seconds), "skew", "clock skew forgiven, at most 5m; 0 is the default, 30s")
	f.Var(new(seconds), "max-ttl", "longest life of a connect token, at most 24h, which is the default (0)")
	f.Bool("one-key", false, "also accept connect tokens signed without the device secret")
	f.Bool("end-on-expiry", false, "end a session when its token expires")
	f.String("issuer", "", "iss of user tokens that the identity provider signs")
	f.String("audience", "", "aud that user tokens must have; empty accepts any")
	f.String("jwks-url", "", "where the identity provider publishes its keys")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// appChange collects the settings that were named.
func appChange(c *cobra.Command) map[string]map[string]any {
	change := map[string]map[string]any{}
	put := func(section, member, flag string, value any) {
		if !c.Flags().Changed(flag) {
			return
		}
		if change[section] == nil {
			change[section] = map[string]any{}
		}
		change[section][member] = value
	}
	for flag, member := range map[string]string{"skew": "skew", "max-ttl": "max_ttl"} {
		put("policy", member, flag, c.Flag(flag).Value)
	}
	for flag, member := range map[string]string{"one-key": "one_key", "end-on-expiry": "end_on_expiry"} {
		on, _ := c.Flags().GetBool(flag)
		put("policy", member, flag, on)
	}
	for flag, member := range map[string]string{"issuer": "issuer", "audience": "audience", "jwks-url": "jwks_url"} {
		text, _ := c.Flags().GetString(flag)
		put("identity", member, flag, text)
	}
	return change
}
