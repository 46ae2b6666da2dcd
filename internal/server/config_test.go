package server

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "turnpike.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingNeedsToBeSet(t *testing.T) {
	for _, text := range []string{"", "# nothing yet\n", "---\n"} {
		c, err := LoadConfig(configFile(t, text), nil, nil)
		if err != nil {
			t.Fatalf("LoadConfig(%q): %v", text, err)
		}
		if c.HTTP != ":5080" || c.Media.UDP != ":5082" || c.Data != "data" || c.Store != "" {
			t.Errorf("LoadConfig(%q) = %+v, want the defaults", text, c)
		}
	}
}

func TestFlagsWinOverEnvironmentOverFile(t *testing.T) {
	path := configFile(t, "http: ':1'\nmedia:\n  udp: ':1'\n  tcp: ':1'\ndrain: 3s\nmetrics_from: [10.0.0.0/8, 127.0.0.1/32]\n")
	env := []string{"TURNPIKE_MEDIA_UDP=:2", "TURNPIKE_MEDIA_TCP=:2", "HOME=/"}
	c, err := LoadConfig(path, env, map[string]string{"media.tcp": ":3"})
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP != ":1" || c.Media.UDP != ":2" || c.Media.TCP != ":3" || c.Drain != 3*time.Second {
		t.Errorf("http %s, udp %s, tcp %s, drain %s; want :1, :2, :3, 3s", c.HTTP, c.Media.UDP, c.Media.TCP, c.Drain)
	}
	if want := []string{"10.0.0.0/8", "127.0.0.1/32"}; !reflect.DeepEqual(c.Metrics, want) {
		t.Errorf("metrics_from = %q, want %q", c.Metrics, want)
	}
}

func TestWrongSettingsSayWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		file  string
		env   string
		flag  [2]string
		wants []string
	}{
		"misspelt":           {file: "htp: ':80'", wants: []string{`"htp"`, `"http"`, "line 1"}},
		"misspelt below":     {file: "media:\n  upd: ':80'", wants: []string{`"media.upd"`, `"media.udp"`, "line 2"}},
		"unknown door":       {file: "devise: {keepalive: 5s}", wants: []string{`"device.keepalive"`}},
		"misspelt flag":      {flag: [2]string{"log.levle", "info"}, wants: []string{`"log.level"`}},
		"bad duration":       {file: "drain: soon", wants: []string{"drain", "duration", "line 1"}},
		"bad environment":    {env: "TURNPIKE_DEV=maybe", wants: []string{"TURNPIKE_DEV", "true or false"}},
		"twice":              {file: "http: a\nhttp: b", wants: []string{"http", "twice"}},
		"a list for one":     {file: "http: [a, b]", wants: []string{"http", "one value"}},
		"not a mapping":      {file: "- http", wants: []string{"mapping"}},
		"no YAML":            {file: "http: [", wants: []string{"cannot read the configuration"}},
		"half a certificate": {file: "tls: {cert: a.pem}", wants: []string{"tls.cert", "tls.key"}},
		"no address":         {file: "http: ''", wants: []string{"HTTP"}},
		"bad level":          {file: "log: {level: loud}", wants: []string{"log.level", "debug"}},
		"bad format":         {file: "log: {format: xml}", wants: []string{"log.format", "json"}},
		"cluster, no secret": {file: "cluster: {listen: ':6222'}", wants: []string{"cluster.secret"}},
		"no time to stop":    {file: "drain: 0s", wants: []string{"drain", "1s"}},
		"two buses":          {file: "bus: nats://x\ncluster: {listen: ':1', secret: abcdefgh}", wants: []string{"both"}},
	} {
		t.Run(name, func(t *testing.T) {
			flags := map[string]string{}
			if test.flag[0] != "" {
				flags[test.flag[0]] = test.flag[1]
			}
			_, err := LoadConfig(configFile(t, test.file), []string{test.env}, flags)
			if err == nil {
				t.Fatal("was accepted")
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not mention %q: %v", want, err)
				}
			}
		})
	}
}

func TestEveryOptionHasAUsageAndThreeNames(t *testing.T) {
	c := DefaultConfig()
	seen := map[string]bool{}
	for _, o := range c.Options() {
		if o.Usage == "" {
			t.Errorf("%s has no usage text", o.Path)
		}
		if seen[o.Flag()] || seen[o.Env()] {
			t.Errorf("%s shares its flag or environment name with another option", o.Path)
		}
		seen[o.Flag()], seen[o.Env()] = true, true
		if err := o.set(o.Default); err != nil {
			t.Errorf("%s does not accept its own default: %v", o.Path, err)
		}
	}
	if !seen["media-udp"] || !seen["TURNPIKE_LOG_LEVEL"] {
		t.Error("the names are not formed as documented")
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add("http: ':80'\nmedia: {udp: ':1'}\n")
	f.Add("a: &a [*a]")
	f.Add("? [x]\n: y")
	f.Fuzz(func(t *testing.T, text string) {
		c := DefaultConfig()
		path := filepath.Join(t.TempDir(), "c.yaml")
		if os.WriteFile(path, []byte(text), 0o600) == nil {
			setFromFile(c.Options(), path) // must not panic
		}
	})
}
