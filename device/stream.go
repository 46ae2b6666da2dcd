package device

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtp/codecs"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

const (
	payloadSize    = 1200    // bytes of RTP payload: with all headers within every path's MTU
	keptBytes      = 4 << 20 // of frames since the last key frame
	keptFrames     = 1000
	audioPacket    = 160 // octets, 20 ms at 64 kbit/s
	keyFramePeriod = 500 * time.Millisecond
)

// packed is a frame ready for RTP, headers apart. It is shared by all viewers and
// never changed.
type packed struct {
	at    time.Time // when Send was called
	stamp uint32    // timestamp in RTP ticks of the stream's clock
	key   bool
	parts [][]byte
	size  int
}

// stream is one of the device's streams: it packs each frame once, gives it to the
// viewers' tracks, and keeps what a new one needs.
type stream struct {
	id     uint8
	source media.Codec // what Send takes
	wire   media.Codec // what viewers get
	keyReq func(uint8)

	mu      sync.Mutex // guards what follows; held while a sender's mu is taken, never the other way
	sps     []byte
	pps     []byte
	g722    *media.G722Encoder
	odd     []byte // octet of 16 kHz A-law that waits for its pair
	kept    []*packed
	size    int // bytes in kept
	tracks  []*track
	asked   time.Time // last key-frame request
	profile string    // profile-level-id of the last SPS; empty before
}

func newStream(s Stream, keyReq func(uint8)) *stream {
	st := &stream{id: s.ID, source: media.Codec(s.Codec), wire: media.Codec(s.Codec).OnWire(), keyReq: keyReq}
	if st.source == media.ALaw16 {
		st.g722 = media.NewG722Encoder()
	}
	return st
}

// send packs a frame and passes it on.
func (s *stream) send(f Frame, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &packed{at: now, stamp: f.TimestampMs * (s.wire.ClockRate() / 1000)}
	if s.wire.Kind() == media.Video {
		if err := s.packVideo(p, f); err != nil {
			return err
		}
		s.keep(p)
	} else {
		s.packAudio(p, f.Data)
	}
	for _, t := range s.tracks {
		t.offer(p)
	}
	return nil
}

// packVideo cuts an access unit into RTP payloads (RFC 6184). A key frame without
// parameter sets gets the last ones, so that decoding can begin at each key frame.
func (s *stream) packVideo(p *packed, f Frame) error {
	facts := media.Look(f.Data)
	switch {
	case facts.Slices == 0:
		return fmt.Errorf("no picture in it: %w", ErrFrame)
	case s.sps == nil && !facts.Starts():
		return ErrNeedsKeyFrame
	case f.Key && !facts.Key:
		return fmt.Errorf("marked as key frame, but has no IDR picture: %w", ErrFrame)
	}
	data := f.Data
	if facts.SPS != nil && facts.PPS != nil {
		if !bytes.Equal(facts.SPS, s.sps) {
			info, err := media.ParseSPS(facts.SPS)
			if err != nil {
				return errors.Join(ErrFrame, err)
			}
			s.profile = info.ProfileLevelID()
		}
		s.sps, s.pps = bytes.Clone(facts.SPS), bytes.Clone(facts.PPS)
	} else if facts.Key {
		start := []byte{0, 0, 0, 1}
		data = bytes.Join([][]byte{nil, s.sps, s.pps}, start)
		data = append(append(data, start...), f.Data...)
	}
	// A fresh payloader: one that lives on would point into the caller's memory.
	p.parts = new(codecs.H264Payloader).Payload(payloadSize, data)
	p.key = facts.Key
	p.measure()
	return nil
}

// packAudio cuts sound into packets of 20 ms. Both codecs on the wire have 8 octets
// and 8 RTP ticks a millisecond.
func (s *stream) packAudio(p *packed, data []byte) {
	if s.g722 != nil {
		s.odd = append(s.odd, data...)
		whole := len(s.odd) &^ 1
		data = s.g722.EncodeALaw(make([]byte, 0, whole/2), s.odd[:whole])
		s.odd = append(s.odd[:0], s.odd[whole:]...)
	} else {
		data = bytes.Clone(data)
	}
	for len(data) > 0 {
		n := min(len(data), audioPacket)
		p.parts = append(p.parts, data[:n:n])
		data = data[n:]
	}
	p.measure()
}

// measure counts what the frame takes in queues, headers included.
func (p *packed) measure() {
	for _, part := range p.parts {
		p.size += len(part) + 40
	}
}

// keep remembers the frames since the last key frame, for new viewers. When they
// become too much, nothing is kept until the next key frame: new viewers then wait
// for that one.
func (s *stream) keep(p *packed) {
	if p.key {
		s.kept, s.size = nil, 0
	} else if len(s.kept) == 0 {
		return
	}
	s.kept = append(s.kept, p)
	s.size += p.size
	if s.size > keptBytes || len(s.kept) > keptFrames {
		s.kept, s.size = nil, 0
	}
}

// join begins to feed a track, with the frames since the last key frame first. Their
// timestamps are drawn together to a millisecond each and end at the true one of the
// last, so that a player shows the newest picture at once and is not late from then on.
func (s *stream) join(t *track) {
	s.mu.Lock()
	ask := false
	if s.wire.Kind() == media.Video {
		now := time.Now()
		last := len(s.kept) - 1
		step := s.wire.ClockRate() / 1000
		burst := make([]queued, 0, last+1)
		for i, p := range s.kept {
			burst = append(burst, queued{p, now, s.kept[last].stamp - uint32(last-i)*step})
		}
		t.start(burst, s.size)
		ask = last < 0
	}
	s.tracks = append(s.tracks, t)
	s.mu.Unlock()
	if ask {
		s.requestKeyFrame()
	}
}

// leave stops feeding a track. It may not have joined.
func (s *stream) leave(t *track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, other := range s.tracks {
		if other == t {
			s.tracks = append(s.tracks[:i:i], s.tracks[i+1:]...)
			return
		}
	}
}

// requestKeyFrame asks the application for a key frame, at most twice a second.
func (s *stream) requestKeyFrame() {
	s.mu.Lock()
	now := time.Now()
	ask := s.keyReq != nil && s.wire.Kind() == media.Video && now.Sub(s.asked) >= keyFramePeriod
	if ask {
		s.asked = now
	}
	s.mu.Unlock()
	if ask {
		s.keyReq(s.id)
	}
}

// profileLevelID returns that of the stream's SPS, or constrained baseline while
// there is none.
func (s *stream) profileLevelID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.profile == "" {
		return "42e01f"
	}
	return s.profile
}
