package device

import (
	"bytes"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

// picture makes a packed frame without a stream behind it.
func picture(n int, key bool, size int, now time.Time) *packed {
	return &packed{at: now, stamp: uint32(n * 3600), key: key, parts: [][]byte{make([]byte, size)}, size: size}
}

// rig is a sender with one video and one sound track and a fixed estimate.
func rig(rate, limit int) (s *sender, video, sound *track) {
	s = newSender(func() int { return rate })
	video = newTrack(newStream(Stream{0, H264}, nil), nil, s, limit)
	sound = newTrack(newStream(Stream{1, ALaw}, nil), nil, s, limit)
	s.add(video)
	s.add(sound)
	return s, video, sound
}

// waiting returns the numbers of the frames in a track's queue.
func waiting(t *track) []int {
	var all []int
	for _, q := range t.queue {
		all = append(all, int(q.stamp/3600))
	}
	return all
}

func TestFullQueueGoesOnAtAKeyFrame(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		keys []int // of frames 0 to 9, each of 100 bytes, into a queue for 500
		want []int
	}{
		{"the newest key frame that waits", []int{0, 4}, []int{4, 5, 6, 7, 8}},
		{"a key frame at the head stays, the rest goes", []int{0}, []int{0}},
		{"none: everything goes up to the next", []int{8}, []int{8, 9}},
		{"none at all", nil, nil},
	} {
		_, video, _ := rig(startRate, 500)
		for i := range 10 {
			if c.name == "the newest key frame that waits" && i == 9 {
				break
			}
			video.offer(picture(i, slices.Contains(c.keys, i), 100, now))
		}
		if got := waiting(video); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v wait, want %v", c.name, got, c.want)
		}
		if bytes := len(video.queue) * 100; video.bytes != bytes {
			t.Errorf("%s: counts %d bytes, has %d", c.name, video.bytes, bytes)
		}
	}
}

func TestSoundLosesItsOldestAndGoesFirst(t *testing.T) {
	s, video, sound := rig(startRate, 1<<20)
	now := time.Now()
	video.offer(picture(0, true, 1000, now))
	for i := range audioQueue + 5 {
		sound.offer(picture(i, false, 200, now))
	}
	if got := waiting(sound); len(got) != audioQueue || got[0] != 5 {
		t.Errorf("%d pieces wait, the oldest is %d", len(got), got[0])
	}
	for range audioQueue {
		if next, _, _, _ := s.next(now); next != sound {
			t.Fatal("a picture goes before sound")
		}
	}
	if next, _, _, _ := s.next(now); next != video {
		t.Error("the picture does not go after the sound")
	}
}

func TestPaceFollowsTheEstimate(t *testing.T) {
	s, video, _ := rig(800_000, 1<<20) // 125,000 bytes a second with the headroom
	now := time.Now()
	for i := range 20 {
		video.offer(picture(i, i == 0, 25_000, now))
	}
	sent := 0
	for {
		next, q, _, wait := s.next(now)
		if next == nil {
			if wait <= 0 || wait > 300*time.Millisecond {
				t.Errorf("waits %v", wait)
			}
			break
		}
		sent += q.size
	}
	if sent < 125_000 || sent > 175_000 {
		t.Errorf("%d bytes go at once, want a second's worth", sent)
	}
	later := now.Add(900 * time.Millisecond)
	for more := 0; ; more++ {
		if next, _, _, _ := s.next(later); next == nil {
			if more < 3 || more > 5 {
				t.Errorf("%d frames go in the next 900 ms, want about 4", more)
			}
			break
		}
	}
}

func TestPictureThatWaitedTooLongGoesWithAllUpToAKeyFrame(t *testing.T) {
	s, video, _ := rig(100, 1<<20)
	now := time.Now()
	for i := range 30 {
		video.offer(picture(i, i == 0 || i == 20, 10_000, now.Add(time.Duration(i)*40*time.Millisecond)))
	}
	for next, _, _, _ := s.next(now); next != nil; next, _, _, _ = s.next(now) {
	}
	if got := waiting(video); got[0] == 0 || got[0] >= 20 {
		t.Fatalf("%v wait", got)
	}
	s.next(now.Add(2 * time.Second))
	if got := waiting(video); len(got) == 0 || got[0] < 20 {
		t.Errorf("%v wait after two seconds, want to go on at 20", got)
	}
}

func TestPacketsAreSentAgainInMeasure(t *testing.T) {
	var r resends
	now := time.Now()
	note := func(seq uint16, after time.Duration) (bool, bool) { return r.note(seq, now.Add(after)) }
	for seq := uint16(65530); seq != 10; seq++ {
		if again, _ := note(seq, 0); again {
			t.Fatalf("packet %d counts as sent again", seq)
		}
	}
	for _, c := range []struct {
		name  string
		seq   uint16
		after time.Duration
		want  bool
	}{
		{"first request", 65535, 300 * time.Millisecond, true},
		{"second one at once", 65535, 400 * time.Millisecond, false},
		{"another packet", 3, 400 * time.Millisecond, true},
		{"second one later", 65535, 600 * time.Millisecond, true},
		{"nobody waits any more", 5, 1100 * time.Millisecond, false},
		{"forgotten", 60000, 0, false},
	} {
		if again, useful := note(c.seq, c.after); !again || useful != c.want {
			t.Errorf("%s: again %v, useful %v", c.name, again, useful)
		}
	}

	s, _, _ := rig(100_000, 1000) // 15,625 bytes a second, half of it for packets sent again
	s.mayResend(0, now)
	passed := 0
	for i := range 1000 {
		if s.mayResend(1000, now.Add(time.Duration(i)*10*time.Millisecond)) {
			passed++
		}
	}
	if passed < 70 || passed > 100 {
		t.Errorf("%d packets of 1000 bytes sent again in 10 s, want about 78", passed)
	}
}

func TestKeepsNoMoreThanItMay(t *testing.T) {
	s := newStream(Stream{0, H264}, nil)
	now := time.Now()
	s.keep(picture(0, true, 1000, now))
	for i := range keptFrames {
		s.keep(picture(i+1, false, 100, now))
	}
	if len(s.kept) != 0 {
		t.Errorf("%d frames kept of an endless group", len(s.kept))
	}
	s.keep(picture(2000, false, 100, now))
	s.keep(picture(2001, true, 100, now))
	s.keep(picture(2002, false, 100, now))
	if len(s.kept) != 2 || s.size != 200 {
		t.Errorf("%d frames, %d bytes kept of a new group", len(s.kept), s.size)
	}
}

func TestSendCopiesItsData(t *testing.T) {
	b, err := os.ReadFile("../cmd/turnpike/demo/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	units, err := media.AccessUnits(b)
	if err != nil {
		t.Fatal(err)
	}
	d := offline(t, Stream{0, H264}, Stream{1, ALaw})
	_, video, sound := rig(startRate, 1<<20)
	d.streams[0].join(video)
	d.streams[1].join(sound)
	unit, piece := bytes.Clone(units[0]), bytes.Repeat([]byte{0x11}, 400)
	if err := d.Send(0, Frame{Data: unit}); err != nil {
		t.Fatal(err)
	}
	if err := d.Send(1, Frame{Data: piece}); err != nil {
		t.Fatal(err)
	}
	parts := len(sound.queue[0].parts)
	before := bytes.Join(slices.Concat(video.queue[0].parts, sound.queue[0].parts), nil)
	clear(unit)
	clear(piece)
	if after := bytes.Join(slices.Concat(video.queue[0].parts, sound.queue[0].parts), nil); !bytes.Equal(before, after) {
		t.Error("what waits to be sent lies in the caller's memory")
	}
	if parts != 3 { // 20 ms, 20 ms, 10 ms
		t.Errorf("50 ms of sound make %d packets, want 3", parts)
	}
}

// BenchmarkSend measures a frame of 10 KB for eight viewers, up to their queues.
func BenchmarkSend(b *testing.B) {
	s := newStream(Stream{0, H264}, nil)
	nal := append([]byte{0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0, 0, 0, 1, 0x68, 0xcb, 0x83, 0xcb, 0x20, 0, 0, 0, 1, 0x65, 0x88},
		bytes.Repeat([]byte{0x5a}, 10_000)...)
	for range 8 {
		_, video, _ := rig(startRate, 1<<20)
		s.join(video)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := s.send(Frame{TimestampMs: uint32(i), Key: true, Data: nal}, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
