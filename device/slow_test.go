package device_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
)

// proxy is a narrow line: what comes from the device goes on at so many bytes a second
// after a short queue, and what does not fit there is lost. The way back is free.
type proxy struct {
	near, far *net.UDPConn // towards the client, towards the device
	queue     chan []byte
	rate      int

	mu     sync.Mutex // guards what follows
	client netip.AddrPort
	device netip.AddrPort
}

func newProxy(t *testing.T, rate int) *proxy {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p := &proxy{near: listen(), far: listen(), queue: make(chan []byte, 24), rate: rate}
	var work sync.WaitGroup
	work.Go(p.up)
	work.Go(p.down)
	work.Go(p.squeeze)
	t.Cleanup(func() {
		p.near.Close()
		p.far.Close()
		work.Wait()
	})
	return p
}

func (p *proxy) up() {
	buf := make([]byte, 2048)
	for {
		n, from, err := p.near.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.client = from
		to := p.device
		p.mu.Unlock()
		if to.IsValid() {
			p.far.WriteToUDPAddrPort(buf[:n], to)
		}
	}
}

func (p *proxy) down() {
	defer close(p.queue)
	buf := make([]byte, 2048)
	for {
		n, _, err := p.far.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		select {
		case p.queue <- bytes.Clone(buf[:n]):
		default: // lost
		}
	}
}

func (p *proxy) squeeze() {
	for packet := range p.queue {
		time.Sleep(time.Duration(len(packet)) * time.Second / time.Duration(p.rate))
		p.mu.Lock()
		to := p.client
		p.mu.Unlock()
		if to.IsValid() {
			p.near.WriteToUDPAddrPort(packet, to)
		}
	}
}

// enter leads an answer's media through the proxy.
func (p *proxy) enter(answer string) string {
	candidate := regexp.MustCompile(`a=candidate:\S+ 1 udp \d+ (127\.\S+) (\d+) typ host[^\r\n]*`)
	m := candidate.FindStringSubmatch(answer)
	if m == nil {
		return answer
	}
	port, err := strconv.ParseUint(m[2], 10, 16)
	if err != nil {
		return answer
	}
	p.mu.Lock()
	p.device = netip.AddrPortFrom(netip.MustParseAddr(m[1]), uint16(port))
	p.mu.Unlock()
	var out []string
	for line := range strings.Lines(answer) {
		switch {
		case strings.HasPrefix(line, "a=end-of-candidates"):
			near := p.near.LocalAddr().(*net.UDPAddr)
			out = append(out, fmt.Sprintf("a=candidate:1 1 udp 2130706431 %s %d typ host\r\n", near.IP, near.Port))
		case strings.HasPrefix(line, "a=candidate:"):
			continue
		}
		out = append(out, line)
	}
	return strings.Join(out, "")
}

// hide takes the candidates out of an offer, so that the device cannot go around.
func hide(offer string) string {
	var out []string
	for line := range strings.Lines(offer) {
		if !strings.HasPrefix(line, "a=candidate:") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// positions finds out which picture of the clip each frame is.
func positions(t *testing.T, frames []client.VideoFrame) []int {
	t.Helper()
	key := func(unit []byte) string {
		return string(bytes.Join(slices.Collect(media.NALs(unit)), []byte{0, 0, 1}))
	}
	index := make(map[string]int)
	for i, u := range clipUnits(t) {
		index[key(u)] = i
	}
	var at []int
	for _, f := range frames {
		i, ok := index[key(f.Data)]
		if !ok {
			t.Fatal("a frame is not from the clip")
		}
		at = append(at, i)
	}
	return at
}

func TestSlowViewerDropsToKeyFrameAndNobodyElseNotices(t *testing.T) {
	s := rendezvoustest.Start(t)
	d := start(t, s, config(s))
	play(t, d)
	fast := newViewer(t, client.Config{Server: s.URL})
	fast.watch(t)
	fast.connect(t)

	line := newProxy(t, 40_000) // bytes a second; the clip needs 68,000
	s.Offer, s.Answer = hide, line.enter
	slow := newViewer(t, client.Config{Server: s.URL})
	slow.watch(t)
	slow.connect(t)

	victim := func() *device.Viewer {
		for _, v := range d.Viewers() {
			if v.Bitrate() < 1_000_000 {
				return v
			}
		}
		return nil
	}
	eventually(t, "the slow viewer is noticed", func() bool { return victim() != nil })
	v := victim()
	eventually(t, "the slow viewer loses pictures", func() bool { _, lost := v.Stats(0); return lost > 0 })
	seen, _ := slow.frames()
	eventually(t, "the slow viewer goes on after that", func() bool {
		video, _ := slow.frames()
		return len(video) > len(seen)+20
	})

	video, audio := slow.frames()
	at, skips := positions(t, video), 0
	for i := 1; i < len(at); i++ {
		if at[i] == (at[i-1]+1)%300 {
			continue
		}
		skips++
		if !video[i].Key {
			t.Errorf("after picture %d comes %d, which is no key frame", at[i-1], at[i])
		}
	}
	sent, lost := v.Stats(0)
	t.Logf("slow viewer: %d pictures and %d pieces of sound received, %d skips; %d sent, %d lost; estimate %d bit/s",
		len(video), len(audio), skips, sent, lost, v.Bitrate())
	if skips == 0 {
		t.Error("the slow viewer has no gap")
	}

	video, _ = fast.frames()
	at = positions(t, video)
	for i := 1; i < len(at); i++ {
		if at[i] != (at[i-1]+1)%300 {
			t.Fatalf("the fast viewer misses pictures between %d and %d", at[i-1], at[i])
		}
	}
}
