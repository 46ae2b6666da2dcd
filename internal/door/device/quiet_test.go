package device

import (
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
)

// Whoever goes on after being refused too often must not be able to fill the disk.
func TestBlockedSourceLeavesOneLineInTheTrail(t *testing.T) {
	s := newSite(t)
	for range 100 {
		s.post(t, "v1.no.token")
	}
	count := map[string]int{}
	settled := func() bool {
		clear(count)
		for _, e := range s.Events(t) {
			count[e.Kind]++
		}
		return count["quietened"] == 1
	}
	if !doortest.Eventually(settled) || count["refused"] > 31 {
		t.Errorf("the trail has %v, want 30 refusals and one line for the rest", count)
	}
}
