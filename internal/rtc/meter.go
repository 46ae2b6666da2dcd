package rtc

import (
	"net/netip"
	"sync"
	"time"
)

const (
	answersPerSecond = 200     // per source: many devices may share one address
	maxSources       = 1 << 15 // remembered per second; when full, new sources wait for the next one
)

// meter allows each source address so many answers in each second. An IPv6
// source is its /64, which is what one subscriber gets.
type meter struct {
	now func() time.Time

	mu     sync.Mutex // guards the following
	second int64
	seen   map[netip.Prefix]int
}

func newMeter(now func() time.Time) *meter {
	return &meter{now: now, seen: map[netip.Prefix]int{}}
}

func (m *meter) allow(a netip.Addr) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.now().Unix(); s != m.second {
		m.second = s
		clear(m.seen)
	}
	k := source(a)
	n, known := m.seen[k]
	if n >= answersPerSecond || !known && len(m.seen) >= maxSources {
		return false
	}
	m.seen[k] = n + 1
	return true
}

func source(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}
