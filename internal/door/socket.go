package door

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	socketBuffer  = 256              // bytes each way; larger messages bypass it
	writePatience = 10 * time.Second // a peer that takes no bytes for so long is gone
	closePatience = time.Second      // from our close frame to the end of the connection
)

// ErrNotText is a binary message where only text is spoken.
var ErrNotText = errors.New("message is not text")

// Socket is a server-side WebSocket made for many that are mostly idle. It has
// small buffers, no compression, no timer and no goroutine of its own; whoever
// reads it owns it. Write and Close may be called by anybody at any time.
type Socket struct {
	ws    *websocket.Conn
	raw   net.Conn
	heard atomic.Int64 // Unix seconds of the last frame
}

// AcceptSocket upgrades a request. On error it has answered. The caller should
// leave the HTTP handler soon and read from a goroutine of its own: that frees
// what net/http holds for the request. limit bounds a message, in bytes.
func AcceptSocket(w http.ResponseWriter, r *http.Request, subprotocol string, limit int64) (*Socket, error) {
	if !offers(r, subprotocol) {
		Problem(w, http.StatusBadRequest, "bad_request", "This address is a WebSocket with the subprotocol "+subprotocol+".")
		return nil, errors.New("cannot accept WebSocket: subprotocol not offered")
	}
	if r.ProtoMajor != 1 || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		Problem(w, http.StatusUpgradeRequired, "upgrade_required", "This address is a WebSocket, over HTTP/1.1.")
		return nil, errors.New("cannot accept WebSocket: no upgrade")
	}
	s := new(Socket)
	s.touch()
	small := &smallHijack{ResponseWriter: w}
	ws, err := websocket.Accept(small, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // the origin proves nothing here; the peer proves itself by message
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { s.touch(); return true },
	})
	if err != nil {
		return nil, fmt.Errorf("cannot accept WebSocket: %w", err)
	}
	ws.SetReadLimit(limit)
	s.ws, s.raw = ws, small.conn
	return s, nil
}

func offers(r *http.Request, subprotocol string) bool {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(p) == subprotocol {
				return true
			}
		}
	}
	return false
}

// Read returns the next text message. It answers pings while it waits, and waits
// without end: a sweeper that looks at Heard closes silent sockets.
func (s *Socket) Read() ([]byte, error) { return s.read(context.Background()) }

// ReadBy is Read with a deadline, after which the connection is of no more use.
func (s *Socket) ReadBy(deadline time.Time) ([]byte, error) {
	if err := s.raw.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	b, err := s.read(context.Background())
	if err != nil {
		return nil, err
	}
	return b, s.raw.SetReadDeadline(time.Time{})
}

func (s *Socket) read(ctx context.Context) ([]byte, error) {
	kind, r, err := s.ws.Reader(ctx)
	if err != nil {
		return nil, err
	}
	s.touch()
	if kind != websocket.MessageText {
		return nil, ErrNotText
	}
	b, err := io.ReadAll(r)
	s.touch()
	return b, err
}

// Write sends a text message. A peer that does not take it in ten seconds loses
// the connection.
func (s *Socket) Write(b []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), writePatience)
	defer cancel()
	return s.ws.Write(ctx, websocket.MessageText, b)
}

// Close ends the connection with a close code and a reason of at most 123 bytes.
// It takes a second at most, however silent the peer is; a Read under way fails.
func (s *Socket) Close(code int, reason string) {
	s.raw.SetDeadline(time.Now().Add(closePatience))
	s.ws.Close(websocket.StatusCode(code), reason)
}

// Heard is when the peer last sent a frame, to the second.
func (s *Socket) Heard() time.Time { return time.Unix(s.heard.Load(), 0) }

func (s *Socket) touch() { s.heard.Store(time.Now().Unix()) }

// smallHijack gives the WebSocket library small buffers in place of the two of
// 4 KiB that net/http hands out, and keeps hold of the connection.
type smallHijack struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *smallHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, big, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = conn
	var from io.Reader = conn
	if n := big.Reader.Buffered(); n > 0 {
		early, err := big.Reader.Peek(n)
		if err != nil {
			conn.Close()
			return nil, nil, err
		}
		from = io.MultiReader(bytes.NewReader(bytes.Clone(early)), conn)
	}
	return conn, bufio.NewReadWriter(bufio.NewReaderSize(from, socketBuffer), bufio.NewWriterSize(conn, socketBuffer)), nil
}
