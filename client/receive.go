package client

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

const (
	queueFrames = 1024        // that wait for an output
	queueBytes  = 16 << 20    // of them
	soundFrames = 100         // of sound, usually two seconds
	askAgain    = time.Second // for a key frame, while there is no picture
)

// queue holds the frames of one track between the network and the output. One
// goroutine puts, one takes. When it is full, sound loses its oldest frame and video
// everything up to the next key frame.
type queue struct {
	frames chan frame
	bytes  atomic.Int64
	gap    bool // the putter's: something was dropped since the last frame put
}

func newQueue(codec media.Codec) *queue {
	size := queueFrames
	if codec.Kind() == media.Audio {
		size = soundFrames
	}
	return &queue{frames: make(chan frame, size)}
}

// put queues a frame, or drops it. It never waits.
func (q *queue) put(f frame) {
	video := f.codec.Kind() == media.Video
	if q.gap && video && !f.key {
		return
	}
	f.gap = f.gap || q.gap
	if q.bytes.Load()+int64(len(f.data)) > queueBytes {
		q.gap = true
		return
	}
	for {
		select {
		case q.frames <- f:
			q.bytes.Add(int64(len(f.data)))
			q.gap = false
			return
		default:
		}
		if video {
			q.gap = true
			return
		}
		f.gap = true
		select {
		case old := <-q.frames:
			q.bytes.Add(-int64(len(old.data)))
		default:
		}
	}
}

// track receives one media track until the connection ends.
func (p *peer) track(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
	stream, ok := streamOf(t.StreamID())
	codec := media.Codec(strings.TrimPrefix(strings.TrimPrefix(t.Codec().MimeType, "video/"), "audio/"))
	if !ok || codec.Kind() == "" {
		p.conn.config.Log.Warn("device sends something unknown", "msid", t.StreamID(), "codec", t.Codec().MimeType)
		return
	}
	q := newQueue(codec)
	p.work.Go(func() { p.deliver(q, stream, codec.Kind()) })
	p.work.Go(func() {
		defer close(q.frames)
		p.read(t, q, stream, codec)
	})
}

// read makes frames of the packets of a track.
func (p *peer) read(t *webrtc.TrackRemote, q *queue, stream uint8, codec media.Codec) {
	a := newAssembler(codec)
	asked := time.Now()
	begun, base := false, time.Duration(0)
	for {
		packet, _, err := t.ReadRTP()
		if err != nil {
			return
		}
		now := time.Now()
		for _, f := range a.push(packet, now) {
			if !begun {
				begun, base = true, p.conn.since(now)-f.at
			}
			f.stream, f.at = stream, f.at+base
			q.put(f)
		}
		if (a.broken || q.gap) && codec == media.H264 && now.Sub(asked) > askAgain {
			asked = now
			p.requestPicture(t)
		}
	}
}

// requestPicture asks for a key frame the way every sender understands.
func (p *peer) requestPicture(t *webrtc.TrackRemote) {
	if err := p.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(t.SSRC())}}); err != nil {
		p.conn.config.Log.Debug("cannot ask for a key frame", "error", err)
	}
}

// since returns the time on the connection's clock, which the first call starts.
func (c *Conn) since(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun.IsZero() {
		c.begun = now
	}
	return now.Sub(c.begun)
}

// deliver gives frames to the stream's output. A new output begins at a key frame.
func (p *peer) deliver(q *queue, stream uint8, kind media.Kind) {
	served, waits := 0, kind == media.Video
	for f := range q.frames {
		q.bytes.Add(-int64(len(f.data)))
		o, n := p.conn.output(stream)
		if o == nil || o.kind() != kind || p.ctx.Err() != nil {
			continue
		}
		if n != served {
			served, waits = n, kind == media.Video
		}
		if waits && !f.key {
			continue
		}
		waits = false
		o.deliver(f)
	}
}
