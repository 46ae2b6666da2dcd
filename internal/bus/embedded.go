package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// startEmbedded starts a server inside this process and connects to it without a socket.
func (b *Bus) startEmbedded(ctx context.Context, c Config) (err error) {
	options := &server.Options{
		ServerName: c.Name,
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		DontListen: true,
		MaxPayload: maxPayload,
		NoSigs:     true, // signals are the program's
		// A node that is away for long is worth a line now and then, not four a second.
		ConnectErrorReports:   quietTries,
		ReconnectErrorReports: quietTries,
		NoLog:                 true, // no logger of its own; ours comes below
	}
	if c.Listen != "" || len(c.Routes) > 0 {
		if err := join(options, c); err != nil {
			return err
		}
	}
	if b.server, err = server.NewServer(options); err != nil {
		return err
	}
	b.server.SetLogger(quiet{b.log.With("part", "nats")}, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(startTimeout(ctx)) {
		return errors.New("embedded server did not start in time")
	}
	b.conn, err = nats.Connect("", append(b.options(c), nats.InProcessServer(b.server),
		nats.UserInfo(options.Username, options.Password), nats.IgnoreDiscoveredServers())...)
	return err
}

func startTimeout(ctx context.Context) time.Duration {
	const most = 10 * time.Second
	if end, ok := ctx.Deadline(); ok {
		return min(most, time.Until(end))
	}
	return most
}

// join makes the server one of several. Routes start only after a listener for clients
// (nats-server 2.15), so there is one, on loopback, and only this process knows the
// password.
func join(o *server.Options, c Config) error {
	if c.RouteSecret == "" {
		return errors.New("joined servers need a route secret")
	}
	host, port, err := splitListen(c.Listen)
	if err != nil {
		return err
	}
	o.DontListen = false
	o.Username, o.Password = rand.Text(), rand.Text()
	o.Cluster = server.ClusterOpts{
		Name: "turnpike", Host: host, Port: port, NoAdvertise: true,
		Username: routeUser, Password: c.RouteSecret,
		PingInterval: 2 * time.Second, MaxPingsOut: 2, // a host that falls silent is noticed in 6 s, not in 90
		ConnectRetries: 1 << 30,
	}
	for _, address := range c.Routes {
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("route %q: want host:port", address)
		}
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: address, User: url.UserPassword(routeUser, c.RouteSecret)})
	}
	return nil
}

const (
	routeUser  = "route"
	quietTries = 600 // attempts to reach a node between two warnings
)

// splitListen reads "host:port"; empty is a free port of loopback, for a node that only
// joins others.
func splitListen(address string) (host string, port int, err error) {
	if address == "" {
		return "127.0.0.1", server.RANDOM_PORT, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("listen address %q: want host:port", address)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}

// RouteAddr returns where other embedded servers can join this one; empty when they cannot.
func (b *Bus) RouteAddr() string {
	if b.server == nil || b.server.ClusterAddr() == nil {
		return ""
	}
	return b.server.ClusterAddr().String()
}

// quiet passes on what operators may want to know. What the server calls notices is
// debugging to us.
type quiet struct{ log *slog.Logger }

func (q quiet) Noticef(format string, v ...any) { q.log.Debug(fmt.Sprintf(format, v...)) }
func (q quiet) Errorf(format string, v ...any)  { q.log.Warn(fmt.Sprintf(format, v...)) }
func (q quiet) Fatalf(format string, v ...any)  { q.log.Error(fmt.Sprintf(format, v...)) }
func (q quiet) Debugf(string, ...any)           {}
func (q quiet) Tracef(string, ...any)           {}

// Warnf leaves out one warning: the passwords it means are made here and live in memory.
func (q quiet) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Plaintext passwords") {
		return
	}
	q.log.Warn(fmt.Sprintf(format, v...))
}
