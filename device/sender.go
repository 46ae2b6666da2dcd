package device

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

const (
	audioQueue  = 50          // frames of sound that wait, usually a second; then the oldest goes
	patience    = time.Second // a picture that waits longer goes, with all up to the next key frame
	headroom    = 1.25        // sending rate over the estimate: the estimate follows what is sent
	slowestRate = 100_000     // bit/s, the floor under the estimate
	smallBurst  = 64 << 10    // bytes that may go at once however low the rate
)

// queued is a frame on its way to one viewer.
type queued struct {
	*packed
	since time.Time // it waits
	stamp uint32    // before the track's offset; not always the frame's own
}

// track is one stream on its way to one viewer. Its fields are guarded by the
// sender's mu.
type track struct {
	stream *stream
	local  *webrtc.TrackLocalStaticRTP
	sender *sender
	limit  int // bytes that may wait

	queue  []queued
	bytes  int
	gap    bool // frames go until the next key frame
	seq    uint16
	offset uint32 // of this viewer's RTP timestamps (RFC 3550, 5.1: random)
	sent   uint64 // frames
	lost   uint64 // frames
}

func newTrack(s *stream, local *webrtc.TrackLocalStaticRTP, to *sender, limit int) *track {
	return &track{stream: s, local: local, sender: to, limit: limit, seq: uint16(rand.Uint32()), offset: rand.Uint32()}
}

// sender writes to one viewer: it owns the order, the pace and the drops. Each viewer
// has one, with its own goroutine, so that a slow one slows nobody.
type sender struct {
	rate func() int // estimated bit/s

	mu     sync.Mutex // guards what follows and the tracks' fields
	tracks []*track
	budget float64 // bytes that may be sent now
	filled time.Time
	resend float64 // bytes of it for packets sent again
	resent time.Time
	wake   chan struct{} // one slot: something to send
}

func newSender(rate func() int) *sender {
	return &sender{rate: rate, wake: make(chan struct{}, 1)}
}

func (s *sender) add(t *track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracks = append(s.tracks, t)
}

// start fills the queue with what a new viewer needs first. That may be more than the
// limit, which grows by as much.
func (t *track) start(burst []queued, size int) {
	t.sender.mu.Lock()
	defer t.sender.mu.Unlock()
	t.queue, t.bytes = burst, size
	t.limit += size
	t.gap = len(burst) == 0
	t.sender.poke()
}

// offer queues a frame. When the queue is full, sound loses its oldest frame and
// video everything up to a key frame. It never waits.
func (t *track) offer(p *packed) {
	t.sender.mu.Lock()
	defer t.sender.mu.Unlock()
	video := t.stream.wire.Kind() == media.Video
	if t.gap && video && !p.key {
		t.lost++
		return
	}
	t.gap = false
	t.queue = append(t.queue, queued{p, p.at, p.stamp})
	t.bytes += p.size
	switch {
	case video && t.bytes > t.limit:
		t.skip()
	case !video && len(t.queue) > audioQueue:
		t.forget(1)
	}
	t.sender.poke()
}

// skip makes room by going on at the newest key frame that waits. If that is the
// first in the queue, the frames behind it go; if there is none, all go. In both
// cases nothing more is taken up to the next key frame.
func (t *track) skip() {
	for i := len(t.queue) - 1; i > 0; i-- {
		if t.queue[i].key {
			t.forget(i)
			return
		}
	}
	t.gap = true
	if len(t.queue) == 0 || !t.queue[0].key {
		t.forget(len(t.queue))
		return
	}
	t.lost += uint64(len(t.queue) - 1)
	t.queue = t.queue[:1:1]
	t.bytes = t.queue[0].size
}

// forget drops the first n frames.
func (t *track) forget(n int) {
	for _, q := range t.queue[:n] {
		t.bytes -= q.size
	}
	t.lost += uint64(n)
	t.queue = append([]queued(nil), t.queue[n:]...)
}

// clear empties the queue of a track whose stream the viewer stopped.
func (t *track) clear() {
	t.sender.mu.Lock()
	defer t.sender.mu.Unlock()
	t.queue, t.bytes = nil, 0
}

func (s *sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until quit closes.
func (s *sender) run(quit <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		t, q, seq, wait := s.next(time.Now())
		if t != nil {
			t.write(q, seq)
			select {
			case <-quit:
				return
			default:
				continue
			}
		}
		timer.Reset(wait)
		select {
		case <-quit:
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// next takes the frame to send now, and reserves its sequence numbers; or says how
// long there is nothing to do. Sound goes first and is never held back.
func (s *sender) next(now time.Time) (*track, queued, uint16, time.Duration) {
	rate := s.bytesPerSecond()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filled.IsZero() {
		s.budget = max(rate, smallBurst)
	} else {
		s.budget = min(s.budget+rate*now.Sub(s.filled).Seconds(), max(rate, smallBurst))
	}
	s.filled = now

	var best *track
	for _, t := range s.tracks {
		if t.stream.wire.Kind() == media.Audio && len(t.queue) > 0 {
			return s.take(t)
		}
		if len(t.queue) > 0 && now.Sub(t.queue[0].since) > patience {
			t.skip()
		}
		if len(t.queue) > 0 && (best == nil || t.queue[0].since.Before(best.queue[0].since)) {
			best = t
		}
	}
	if best == nil {
		return nil, queued{}, 0, time.Hour
	}
	if s.budget < 0 {
		return nil, queued{}, 0, time.Duration(-s.budget/rate*float64(time.Second)) + time.Millisecond
	}
	return s.take(best)
}

// bytesPerSecond is what may be sent on average.
func (s *sender) bytesPerSecond() float64 {
	return max(float64(s.rate())*headroom, slowestRate) / 8
}

func (s *sender) take(t *track) (*track, queued, uint16, time.Duration) {
	q := t.queue[0]
	t.queue[0] = queued{} // lets go of the frame
	t.queue = t.queue[1:]
	t.bytes -= q.size
	s.budget -= float64(q.size)
	seq := t.seq
	t.seq += uint16(len(q.parts))
	t.sent++
	return t, q, seq, 0
}

// write puts the viewer's headers before the shared payloads. An error means that the
// connection is ending, which its own goroutines notice.
func (t *track) write(q queued, seq uint16) {
	video := t.stream.wire.Kind() == media.Video
	stamp := q.stamp + t.offset
	for i, part := range q.parts {
		p := rtp.Packet{Payload: part, Header: rtp.Header{
			Version: 2, SequenceNumber: seq + uint16(i), Timestamp: stamp,
			Marker: video && i == len(q.parts)-1,
		}}
		if !video {
			stamp += uint32(len(part))
		}
		if t.local.WriteRTP(&p) != nil {
			return
		}
	}
}
