package door

import (
	"net/netip"
	"sync"
	"time"
)

// Limits of a Limiter.
const (
	refusalsAllowed = 30          // per source and window
	refusalWindow   = time.Minute // a source is quiet for one to two of these
	maxSources      = 1 << 16     // remembered per window; when full, the older half is forgotten
)

// Limiter counts refusals per source address, so that nobody can guess on. An
// IPv6 source is its /64, which is what one subscriber gets.
type Limiter struct {
	now func() time.Time

	mu       sync.Mutex // guards the following
	cur, old map[netip.Prefix]int
	turned   time.Time // when cur became empty
}

// NewLimiter returns a limiter on the given clock.
func NewLimiter(now func() time.Time) *Limiter {
	return &Limiter{now: now, cur: map[netip.Prefix]int{}, turned: now()}
}

// Blocked reports whether a source has been refused too often lately, and after
// what time it is worth trying again.
func (l *Limiter) Blocked(a netip.Addr) (time.Duration, bool) {
	if !a.IsValid() {
		return 0, false // the operator's socket
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.turn()
	k := source(a)
	if l.cur[k]+l.old[k] < refusalsAllowed {
		return 0, false
	}
	end := l.turned.Add(refusalWindow)
	if l.cur[k] >= refusalsAllowed {
		end = end.Add(refusalWindow) // they still count when this window is the old one
	}
	return end.Sub(now), true
}

// Refused counts one refusal, and reports whether it is the one by which its source
// becomes blocked.
func (l *Limiter) Refused(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn()
	if len(l.cur) >= maxSources {
		l.old, l.cur = l.cur, map[netip.Prefix]int{}
	}
	k := source(a)
	l.cur[k]++
	return l.cur[k]+l.old[k] == refusalsAllowed
}

// turn forgets what is older than two windows. Its caller holds mu.
func (l *Limiter) turn() time.Time {
	now := l.now()
	switch age := now.Sub(l.turned); {
	case age >= 2*refusalWindow:
		l.old, l.cur, l.turned = nil, map[netip.Prefix]int{}, now
	case age >= refusalWindow:
		l.old, l.cur, l.turned = l.cur, map[netip.Prefix]int{}, now
	}
	return now
}

func source(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() && !a.Is4In6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits)
	return p
}
