package rtc

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	maxConns     = 1024             // at once; a connection beyond is closed at once
	maxPerSource = 32               // at once, of these
	tcpPatience  = 15 * time.Second // for the next whole request, and for taking an answer
)

// serveTCP accepts connections until the listener closes, then waits for them.
func (e *Engine) serveTCP() error {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		c, err := e.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			e.cfg.Log.Warn("cannot accept a connection on the media port", "error", err)
			time.Sleep(50 * time.Millisecond) // out of file descriptors: let some close
			continue
		}
		if !e.conns.add(c) {
			c.Close()
			continue
		}
		serving.Go(func() {
			defer e.conns.remove(c)
			e.serveConn(c)
		})
	}
}

// serveConn answers requests that follow one another on the stream, each as long
// as its header says (RFC 8489, 6.2.2). Anything else ends the connection.
func (e *Engine) serveConn(c net.Conn) {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	in, out := make([]byte, stunHeader, 256), make([]byte, 0, maxAnswer)
	for {
		c.SetDeadline(time.Now().Add(tcpPatience))
		packet, err := readRequest(c, in)
		if err != nil {
			return
		}
		answer, result := e.answer(out, packet, from)
		e.counts.WithLabelValues("tcp", result).Inc()
		if answer == nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// readRequest reads one message. It looks at the header before it believes the
// length, so that no stranger makes it wait for, or hold, more than a packet.
func readRequest(r io.Reader, in []byte) ([]byte, error) {
	head := in[:stunHeader]
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if head[0] != 0 || head[1] != 1 || binary.BigEndian.Uint32(head[4:]) != magicCookie || stunHeader+size > maxPacket {
		return nil, errors.New("cannot read request: not STUN")
	}
	packet := append(head, make([]byte, size)...)
	_, err := io.ReadFull(r, packet[stunHeader:])
	return packet, err
}

// connections are the open TCP connections.
type connections struct {
	mu     sync.Mutex // guards the following
	open   map[net.Conn]struct{}
	from   map[netip.Prefix]int
	closed bool
}

func newConnections() *connections {
	return &connections{open: map[net.Conn]struct{}{}, from: map[netip.Prefix]int{}}
}

func (s *connections) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := connSource(c)
	if s.closed || len(s.open) >= maxConns || s.from[k] >= maxPerSource {
		return false
	}
	s.open[c] = struct{}{}
	s.from[k]++
	return true
}

func (s *connections) remove(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
	k := connSource(c)
	if s.from[k]--; s.from[k] <= 0 {
		delete(s.from, k)
	}
}

func (s *connections) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
}

func connSource(c net.Conn) netip.Prefix {
	return source(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone(""))
}
