package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

// appFlag adds --app, with the names of the server's apps as completions.
func (sh *shell) appFlag(c *cobra.Command, name *string) {
	c.Flags().StringVar(name, "app", "", "name of the app")
	complete(c, "app", sh.completeApps)
}

// complete gives a flag its completions.
func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := c.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // the flag was just added
	}
}

// completeApps offers the names of all apps, when a server runs.
func (sh *shell) completeApps(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	sh.ask(c, func(ctx context.Context, l *link) {
		for _, a := range l.apps(ctx) {
			names = append(names, a.App)
		}
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeDevices offers the ids of the devices of all apps, or of the one named
// by --app, when a server runs.
func (sh *shell) completeDevices(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	sh.ask(c, func(ctx context.Context, l *link) {
		for _, a := range l.apps(ctx) {
			if f := c.Flag("app"); f != nil && f.Value.String() != "" && f.Value.String() != a.App {
				continue
			}
			all, err := l.devices(ctx, a.App)
			if err != nil {
				return
			}
			for _, d := range all {
				ids = append(ids, d.DeviceID)
			}
		}
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// ask runs f on a server that is there. A completion never fails, never waits
// long, and never opens a data directory.
func (sh *shell) ask(c *cobra.Command, f func(context.Context, *link)) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	config, err := sh.config(map[string]string{})
	if err != nil {
		return
	}
	l, err := dial(ctx, server.SocketPath(config.Data))
	if err != nil {
		return
	}
	f(ctx, l)
	_ = l.close() // nothing is lost by it
}

// apps lists all apps, or none when that fails.
func (l *link) apps(ctx context.Context) []app {
	var list struct{ Apps []app }
	if err := l.call(ctx, http.MethodGet, "/apps", nil, &list); err != nil {
		return nil
	}
	return list.Apps
}
