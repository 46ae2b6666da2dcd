package rendezvoustest

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Line is a narrow line between device and client: what comes from the device goes on
// at so many bytes a second after a short queue, and what does not fit there is lost.
// The way back is free.
type Line struct {
	near, far *net.UDPConn // towards the client, towards the device
	queue     chan []byte
	rate      int

	mu     sync.Mutex // guards what follows
	cut    bool
	client netip.AddrPort
	device netip.AddrPort
}

// NewLine makes a line that carries rate bytes a second, until the test ends.
func NewLine(t testing.TB, rate int) *Line {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	l := &Line{near: listen(), far: listen(), queue: make(chan []byte, 24), rate: rate}
	var work sync.WaitGroup
	work.Go(l.up)
	work.Go(l.down)
	work.Go(l.squeeze)
	t.Cleanup(func() {
		l.near.Close()
		l.far.Close()
		work.Wait()
	})
	return l
}

func (l *Line) up() {
	buf := make([]byte, 2048)
	for {
		n, from, err := l.near.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		l.client = from
		to, cut := l.device, l.cut
		l.mu.Unlock()
		if to.IsValid() && !cut {
			l.far.WriteToUDPAddrPort(buf[:n], to)
		}
	}
}

func (l *Line) down() {
	defer close(l.queue)
	buf := make([]byte, 2048)
	for {
		n, _, err := l.far.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		select {
		case l.queue <- bytes.Clone(buf[:n]):
		default: // lost
		}
	}
}

func (l *Line) squeeze() {
	for packet := range l.queue {
		time.Sleep(time.Duration(len(packet)) * time.Second / time.Duration(l.rate))
		l.mu.Lock()
		to, cut := l.client, l.cut
		l.mu.Unlock()
		if to.IsValid() && !cut {
			l.near.WriteToUDPAddrPort(packet, to)
		}
	}
}

// Enter leads an answer's media through the proxy.
func (l *Line) Enter(answer string) string {
	candidate := regexp.MustCompile(`a=candidate:\S+ 1 udp \d+ (127\.\S+) (\d+) typ host[^\r\n]*`)
	m := candidate.FindStringSubmatch(answer)
	if m == nil {
		return answer
	}
	port, err := strconv.ParseUint(m[2], 10, 16)
	if err != nil {
		return answer
	}
	l.mu.Lock()
	l.device = netip.AddrPortFrom(netip.MustParseAddr(m[1]), uint16(port))
	l.mu.Unlock()
	var out []string
	for line := range strings.Lines(answer) {
		switch {
		case strings.HasPrefix(line, "a=end-of-candidates"):
			near := l.near.LocalAddr().(*net.UDPAddr)
			out = append(out, fmt.Sprintf("a=candidate:1 1 udp 2130706431 %s %d typ host\r\n", near.IP, near.Port))
		case strings.HasPrefix(line, "a=candidate:"):
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// HideCandidates takes the candidates out of an offer, so that the device cannot go around.
func HideCandidates(offer string) string {
	var out []string
	for line := range strings.Lines(offer) {
		if !strings.HasPrefix(line, "a=candidate:") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// Cut makes the line carry nothing any more, in either direction.
func (l *Line) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
}
