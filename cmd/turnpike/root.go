package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

// shell is what every command works with.
type shell struct {
	env            []string // "NAME=value" lines
	in             io.Reader
	out, err       io.Writer
	data, settings string // --data and --config; empty: not given
}

// run carries out one command line and returns the exit code.
func run(ctx context.Context, args, env []string, in io.Reader, out, err io.Writer) int {
	sh := &shell{env: env, in: in, out: out, err: err}
	root := newRoot(sh)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(err)
	return sh.report(root.ExecuteContext(ctx))
}

func newRoot(sh *shell) *cobra.Command {
	root := group("turnpike", "Take access tokens in, let real-time media through", `
Turnpike lets devices be reached by whoever holds a short-lived token.

"turnpike demo" shows it; "turnpike serve" runs it. The other commands manage the
server that runs on the data directory, through a Unix socket in it. With --data DIR
and no server running there, they work on the directory itself.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused or not found, 4 no server.`)
	root.Version = server.Version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("cannot run %s: %w; see its --help", c.CommandPath(), err)}
	})
	root.SetGlobalNormalizationFunc(synonyms)
	root.PersistentFlags().StringVar(&sh.data, "data", "", `data directory (default "data", or what the configuration says)`)
	root.PersistentFlags().StringVar(&sh.settings, "config", "", "configuration file, YAML (or TURNPIKE_CONFIG)")
	root.AddCommand(
		serveCommand(sh), demoCommand(sh),
		appCommand(sh), keyCommand(sh), deviceCommand(sh), grantCommand(sh),
		tokenCommand(sh), sessionCommand(sh), eventsCommand(sh), versionCommand(sh),
	)
	return root
}

// synonyms lets --subject stand for --sub.
func synonyms(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	if name == "subject" {
		name = "sub"
	}
	return pflag.NormalizedName(name)
}

// group is a command that only holds others: alone it shows its help, and with a
// word it does not know it fails.
func group(use, short, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Long: strings.TrimSpace(long),
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("cannot run %q: no such command; see %s --help", c.CommandPath()+" "+args[0], c.CommandPath())}
			}
			return c.Help()
		},
	}
	c.AddCommand(children...)
	return c
}

// arguments is a check on the number of arguments that counts as wrong usage.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return usageError{fmt.Errorf("cannot run %s: %w; see its --help", c.CommandPath(), err)}
		}
		return nil
	}
}

// require makes flags mandatory, with an error that counts as wrong usage.
func require(c *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		if f := c.Flag(name); f == nil || f.Value.String() == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("cannot run %s without %s; see its --help", c.CommandPath(), strings.Join(missing, " and "))}
}

// lookup returns an environment variable, or "".
func (sh *shell) lookup(name string) string {
	for _, line := range sh.env {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// config reads the configuration as the server would.
func (sh *shell) config(flags map[string]string) (server.Config, error) {
	if sh.data != "" {
		flags["data"] = sh.data
	}
	path := sh.settings
	if path == "" {
		path = sh.lookup("TURNPIKE_CONFIG")
	}
	c, err := server.LoadConfig(path, sh.env, flags)
	if err != nil {
		return c, usageError{err}
	}
	return c, nil
}

// quiet is config for commands whose output is not the log: warnings only, unless
// somebody asked for more.
func (sh *shell) quiet(flags map[string]string) (server.Config, error) {
	if _, ok := flags["log.level"]; !ok && sh.lookup("TURNPIKE_LOG_LEVEL") == "" {
		flags["log.level"] = "warn"
	}
	return sh.config(flags)
}

// choseData reports whether somebody named a data directory.
func (sh *shell) choseData() bool {
	return sh.data != "" || sh.settings != "" || sh.lookup("TURNPIKE_CONFIG") != "" || sh.lookup("TURNPIKE_DATA") != ""
}
