package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config is everything an operator can set. The zero value is not usable; start
// from DefaultConfig or LoadConfig.
type Config struct {
	Data    string        `yaml:"data" usage:"data directory: database, master key and control socket"`
	Store   string        `yaml:"store" usage:"PostgreSQL URL; empty: SQLite in the data directory"`
	Bus     string        `yaml:"bus" usage:"NATS URL; empty: embedded"`
	Cluster ClusterConfig `yaml:"cluster"`
	HTTP    string        `yaml:"http" usage:"address of plain HTTP; empty: off"`
	HTTPS   string        `yaml:"https" usage:"address of HTTPS, used when there is a certificate"`
	TLS     TLSConfig     `yaml:"tls"`
	Dev     bool          `yaml:"dev" usage:"serve HTTPS with a self-signed certificate"`
	Proxies []string      `yaml:"trusted_proxies" usage:"networks whose X-Forwarded-For is believed"`
	Media   MediaConfig   `yaml:"media"`
	Log     LogConfig     `yaml:"log"`
	Metrics []string      `yaml:"metrics_from" usage:"networks that may read /metrics"`
	Drain   time.Duration `yaml:"drain" usage:"how long a stop may take"`

	doors []entry // the doors and their sections
}

// ClusterConfig joins embedded buses to one another.
type ClusterConfig struct {
	Listen string   `yaml:"listen" usage:"address on which other nodes' embedded buses join; empty: alone"`
	Routes []string `yaml:"routes" usage:"addresses of other nodes' embedded buses"`
	Secret string   `yaml:"secret" usage:"what the nodes prove to each other"`
}

// TLSConfig names the certificate for HTTPS.
type TLSConfig struct {
	Cert string `yaml:"cert" usage:"certificate file, PEM"`
	Key  string `yaml:"key" usage:"private key file, PEM"`
}

// MediaConfig is the one UDP and one TCP port of WebRTC.
type MediaConfig struct {
	UDP string `yaml:"udp" usage:"UDP address of WebRTC and STUN; empty: off"`
	TCP string `yaml:"tcp" usage:"TCP address of WebRTC and STUN; empty: off"`
}

// LogConfig says what is logged, and how.
type LogConfig struct {
	Level  string `yaml:"level" usage:"debug, info, warn or error"`
	Format string `yaml:"format" usage:"text or json"`
}

// DefaultConfig returns the settings of a server that nobody configured.
func DefaultConfig() Config {
	return Config{
		Data:  "data",
		HTTP:  ":5080",
		HTTPS: ":5443",
		Media: MediaConfig{UDP: ":5082", TCP: ":5082"},
		Log:   LogConfig{Level: "info", Format: "text"},
		Metrics: []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12",
			"192.168.0.0/16", "fc00::/7"},
		Drain: 10 * time.Second,
		doors: doorList(),
	}
}

// Options lists every setting of c, those of the doors included ("device.keepalive").
func (c *Config) Options() []Option {
	all := options("", c)
	for _, e := range c.doors {
		all = append(all, options(e.name, e.config)...)
	}
	return all
}

// LoadConfig reads the settings: defaults, then the YAML file (path may be empty),
// then the environment ("NAME=value" lines), then flags by option path.
func LoadConfig(path string, env []string, flags map[string]string) (Config, error) {
	c := DefaultConfig()
	all := c.Options()
	if path != "" {
		if err := setFromFile(all, path); err != nil {
			return Config{}, err
		}
	}
	for _, o := range all {
		i := slices.IndexFunc(env, func(s string) bool { return strings.HasPrefix(s, o.Env()+"=") })
		if i < 0 {
			continue
		}
		if err := o.set(strings.TrimPrefix(env[i], o.Env()+"=")); err != nil {
			return Config{}, fmt.Errorf("cannot read environment variable %s: %w", o.Env(), err)
		}
	}
	for path, text := range flags {
		o, err := find(all, path)
		if err == nil {
			err = o.set(text)
		}
		if err != nil {
			return Config{}, err
		}
	}
	return c, c.check()
}

func setFromFile(all []Option, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	var doc yaml.Node
	if err := yaml.NewDecoder(f).Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fmt.Errorf("cannot read the configuration %s: %w", path, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil // nothing but comments
	}
	if err := setFromNode(all, "", doc.Content[0]); err != nil {
		return fmt.Errorf("cannot read the configuration %s: %w", path, err)
	}
	return nil
}

// setFromNode walks a YAML mapping; every leaf is one option.
func setFromNode(all []Option, prefix string, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: want a mapping of settings to values", n.Line)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		path := strings.TrimPrefix(prefix+"."+key.Value, ".")
		if seen[key.Value] {
			return fmt.Errorf("line %d: %s is set twice", key.Line, path)
		}
		seen[key.Value] = true
		if err := setNode(all, path, value); err != nil {
			return err
		}
	}
	return nil
}

func setNode(all []Option, path string, value *yaml.Node) error {
	if value.Kind == yaml.MappingNode {
		return setFromNode(all, path, value)
	}
	o, err := find(all, path)
	if err != nil {
		return fmt.Errorf("line %d: %w", value.Line, err)
	}
	text := value.Value
	switch {
	case value.Kind == yaml.SequenceNode:
		if _, ok := o.value.Interface().([]string); !ok {
			return fmt.Errorf("line %d: %s takes one value, not a list", value.Line, path)
		}
		var items []string
		if err := value.Decode(&items); err != nil {
			return fmt.Errorf("line %d: %s takes a list of strings", value.Line, path)
		}
		text = strings.Join(items, ",")
	case value.Tag == "!!null":
		text = ""
	}
	if err := o.set(text); err != nil {
		return fmt.Errorf("line %d: %w", value.Line, err)
	}
	return nil
}

// check refuses settings that cannot work together.
func (c *Config) check() error {
	switch {
	case c.Data == "":
		return errors.New("cannot start without a data directory: set data")
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("cannot serve HTTPS with half a certificate: set both tls.cert and tls.key")
	case c.HTTP == "" && !c.servesTLS():
		return errors.New("cannot start without HTTP: set http, or tls.cert and tls.key, or dev")
	case c.Bus != "" && c.Cluster.Listen != "":
		return errors.New("cannot use both bus and cluster.listen: an external bus joins the nodes already")
	case c.Cluster.Listen != "" && c.Cluster.Secret == "":
		return errors.New("cannot join nodes without cluster.secret: choose one and set it on every node")
	case c.Drain < time.Second:
		return errors.New("cannot stop in less than a second: set drain to 1s or more")
	}
	if _, err := c.level(); err != nil {
		return err
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return fmt.Errorf("cannot log as %q: log.format is text or json", c.Log.Format)
	}
	return nil
}

func (c *Config) servesTLS() bool { return c.HTTPS != "" && (c.TLS.Cert != "" || c.Dev) }

func (c *Config) level() (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(c.Log.Level)); err != nil {
		return 0, fmt.Errorf("cannot log at %q: log.level is debug, info, warn or error", c.Log.Level)
	}
	return l, nil
}

// logger writes to standard error as the configuration says.
func (c *Config) logger() *slog.Logger {
	level, _ := c.level()
	o := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, o))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, o))
}

// SocketPath is where the server of a data directory takes local commands.
func SocketPath(dir string) string { return filepath.Join(dir, "turnpike.sock") }
