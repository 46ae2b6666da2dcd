package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

func versionCommand(sh *shell) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "version", Short: "Say which version this is", Example: "  turnpike version",
		Args: arguments(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return sh.line(map[string]string{
					"version": server.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			}
			_, err := fmt.Fprintf(sh.out, "turnpike %s (%s, %s/%s)\n", server.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
