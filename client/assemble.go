package client

import (
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

const (
	window       = 1024                   // packets that are put back in order; a power of two
	pictureDelay = 400 * time.Millisecond // how long packets wait for one before them, which NACK may bring
	soundDelay   = 60 * time.Millisecond  // the same for sound, which is not sent again
)

// assembler makes frames of the RTP packets of one stream: it puts them in order,
// waits for missing ones a while, and after a loss drops video up to the next key
// frame. It is pure: the time is an argument.
type assembler struct {
	codec    media.Codec
	patience time.Duration
	packets  [window]*rtp.Packet // by sequence number
	arrived  [window]time.Time
	begun    bool
	next     uint16 // sequence number that is due
	highest  uint16 // newest that came

	h264   codecs.H264Packet
	unit   []byte // the access unit so far
	bytes  int    // payload in it, parts of NAL units included
	ticks  uint32 // its timestamp
	gap    bool   // something is missing before what comes
	broken bool   // video: nothing is good before the next key frame

	clock int64  // unwrapped timestamp of last
	last  uint32 // timestamp last seen
}

func newAssembler(codec media.Codec) *assembler {
	if codec.Kind() == media.Audio {
		return &assembler{codec: codec, patience: soundDelay}
	}
	return &assembler{codec: codec, patience: pictureDelay, broken: true}
}

// push takes a packet that arrived at now and returns the frames it completes. The
// payload is kept until then.
func (a *assembler) push(p *rtp.Packet, now time.Time) []frame {
	if !a.begun {
		a.begun, a.next, a.highest, a.last = true, p.SequenceNumber, p.SequenceNumber, p.Timestamp
	}
	ahead := int16(p.SequenceNumber - a.next)
	switch {
	case ahead < 0 && ahead > -window:
		return nil // too late, or a second time
	case ahead < 0 || ahead >= window:
		a.restart(p.SequenceNumber)
	}
	if int16(p.SequenceNumber-a.highest) > 0 {
		a.highest = p.SequenceNumber
	}
	a.packets[p.SequenceNumber%window] = p
	a.arrived[p.SequenceNumber%window] = now
	return a.drain(now)
}

// restart goes on at seq, far from where the stream was.
func (a *assembler) restart(seq uint16) {
	a.packets = [window]*rtp.Packet{}
	a.next, a.highest = seq, seq
	a.lose()
}

// drain takes packets in order as far as they go. Where some are missing it goes on
// behind them once the next one has waited long enough: each packet waits at most that
// long, however many are missing.
func (a *assembler) drain(now time.Time) []frame {
	var frames []frame
	for int16(a.highest-a.next) >= 0 {
		at := a.next
		for a.packets[at%window] == nil { // highest is there
			at++
		}
		if at != a.next {
			if now.Sub(a.arrived[at%window]) < a.patience {
				break
			}
			a.next = at
			a.lose()
		}
		p := a.packets[at%window]
		a.packets[at%window] = nil
		a.next++
		frames = a.take(frames, p)
	}
	return frames
}

// lose gives up the access unit in the making.
func (a *assembler) lose() {
	a.gap = true
	a.broken = a.codec == media.H264
	a.h264, a.unit, a.bytes = codecs.H264Packet{}, nil, 0
}

// take adds one packet, the next in order.
func (a *assembler) take(frames []frame, p *rtp.Packet) []frame {
	a.clock += int64(int32(p.Timestamp - a.last))
	a.last = p.Timestamp
	if a.codec != media.H264 {
		if len(p.Payload) > 0 {
			frames = append(frames, a.frame(p.Payload, false))
		}
		return frames
	}
	if a.bytes > 0 && p.Timestamp != a.ticks { // a unit that had no marker
		a.h264, a.unit, a.bytes = codecs.H264Packet{}, nil, 0
		a.gap, a.broken = true, true
	}
	a.ticks = p.Timestamp
	a.bytes += len(p.Payload)
	if a.bytes > media.MaxAccessUnit {
		a.lose()
		return frames
	}
	if len(p.Payload) > 0 {
		nals, err := a.h264.Unmarshal(p.Payload)
		if err != nil {
			a.lose()
			return frames
		}
		a.unit = append(a.unit, nals...)
	}
	if p.Marker {
		frames = a.finish(frames)
	}
	return frames
}

// finish ends an access unit.
func (a *assembler) finish(frames []frame) []frame {
	facts := media.Look(a.unit)
	if facts.Starts() {
		a.broken = false
	}
	if facts.Slices > 0 && !a.broken {
		frames = append(frames, a.frame(a.unit, facts.Key))
	}
	a.h264, a.unit, a.bytes = codecs.H264Packet{}, nil, 0
	return frames
}

func (a *assembler) frame(data []byte, key bool) frame {
	f := frame{codec: a.codec, data: data, key: key, gap: a.gap}
	f.at = time.Duration(a.clock) * time.Second / time.Duration(a.codec.ClockRate())
	a.gap = false
	return f
}
