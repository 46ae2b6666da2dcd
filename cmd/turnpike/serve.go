package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/turnpike-rtc/turnpike/internal/server"
)

func serveCommand(sh *shell) *cobra.Command {
	c := &cobra.Command{
		Use: "serve", Short: "Run the server",
		Long: `Run the server. Everything has a default; a setting is taken from its flag, else from
the environment (TURNPIKE_HTTP for --http), else from the configuration file.

The first SIGTERM or SIGINT stops it in good order: no new callers, those inside get
the time of --drain. A second one ends it at once.`,
		Example: "  turnpike serve\n  turnpike serve --config /etc/turnpike.yaml\n  turnpike serve --http :8080 --data /var/lib/turnpike",
		Args:    arguments(cobra.NoArgs),
	}
	flags := settingFlags(c.Flags())
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, err := sh.config(flags())
		if err != nil {
			return err
		}
		s, err := server.New(c.Context(), config)
		if err != nil {
			return err
		}
		if err := s.Run(c.Context()); err != nil {
			return fmt.Errorf("cannot serve: %w", err)
		}
		return nil
	}
	return c
}

// settingFlags adds a flag for every setting of the server, and returns a function
// that collects those that were given, by path.
func settingFlags(f *pflag.FlagSet) func() map[string]string {
	config := server.DefaultConfig()
	paths := map[string]string{}
	for _, o := range config.Options() {
		if o.Path == "data" {
			continue // a flag of every command
		}
		paths[o.Flag()] = o.Path
		f.Var(&setting{o.Default, o.Type()}, o.Flag(), o.Usage)
		if o.Type() == "bool" {
			f.Lookup(o.Flag()).NoOptDefVal = "true"
		}
	}
	return func() map[string]string {
		given := map[string]string{}
		f.Visit(func(flag *pflag.Flag) {
			if path, ok := paths[flag.Name]; ok {
				given[path] = flag.Value.String()
			}
		})
		return given
	}
}

// setting is a flag whose text the server reads, by the same rules as in the
// environment and in the file.
type setting struct{ text, kind string }

func (s *setting) String() string { return s.text }

// Type is shown in help texts.
func (s *setting) Type() string { return s.kind }

// Set keeps the text.
func (s *setting) Set(text string) error {
	s.text = text
	return nil
}
