package device_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/device"
	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/rendezvoustest"
)

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

	line := rendezvoustest.NewLine(t, 40_000) // bytes a second; the clip needs 68,000
	s.Rewrite(rendezvoustest.HideCandidates, line.Enter)
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
