package bus

import (
	"context"
	"errors"
	"net"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
)

// connectExternal connects to a server that somebody else runs. It may come up a
// little later than this node, so an unreachable one is tried again until ctx ends.
func (b *Bus) connectExternal(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	options := append(b.options(c), nats.Timeout(5*time.Second))
	if c.Credentials != "" {
		options = append(options, nats.UserCredentials(c.Credentials))
	}
	for {
		var err error
		if b.conn, err = nats.Connect(c.URL, options...); err == nil {
			return nil
		}
		if !worthRetrying(err) {
			return withoutURL(err)
		}
		select {
		case <-ctx.Done():
			return withoutURL(err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// worthRetrying tells a server that cannot be reached from one that says no, and from
// an address that makes no sense.
func worthRetrying(err error) bool {
	var dial *net.OpError
	return errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.As(err, &dial)
}

// withoutURL takes the address out of an error, since it may hold a password.
func withoutURL(err error) error {
	var address *url.Error
	if errors.As(err, &address) {
		return errors.New("address of the external server is malformed")
	}
	return err
}
