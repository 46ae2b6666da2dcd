package door

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

type operatorKey struct{}

// Operator reports whether the request came through the operator's Unix socket,
// whose file mode is its credential.
func Operator(ctx context.Context) bool {
	on, _ := ctx.Value(operatorKey{}).(bool)
	return on
}

// AsOperator serves every request as the operator's. It is for callers in this
// very process, who have the data directory in their hands already.
func AsOperator(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, true)))
	})
}

// listenOperator opens the Unix socket at path. The socket gets its mode under
// another name first, so that it is never there with a wider one; the rename
// also replaces the remains of a server that was killed.
func listenOperator(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("another server answers at %s", path)
	}
	early := path + ".new"
	if err := os.Remove(early); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: early, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(early, 0o600); err == nil {
		err = os.Rename(early, path)
	}
	if err != nil {
		l.Close()
		return nil, errors.Join(err, os.Remove(early))
	}
	return &operatorListener{l, path}, nil
}

// operatorListener removes the socket's file when it closes.
type operatorListener struct {
	*net.UnixListener
	path string
}

func (l *operatorListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *operatorListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		err = os.Remove(l.path)
	}
	return err
}
