package device

import (
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtp"
)

const (
	resendShare = 0.5                    // of the rate, at most, goes to packets sent again
	resendBurst = 16 << 10               // bytes of them that may go at once
	resendPause = 200 * time.Millisecond // before the same packet goes once more
	resendTime  = time.Second            // after which nobody waits for a packet any more
)

// resendGate stands under the NACK responder and lets pass what the line can carry. A
// receiver behind a congested line may ask for each lost packet ten times a second and
// for ever; to obey would fill the line with packets nobody needs any more.
type resendGate struct {
	interceptor.NoOp
	sender *sender
}

// NewInterceptor makes the gate its own factory: each peer connection has one.
func (g *resendGate) NewInterceptor(string) (interceptor.Interceptor, error) { return g, nil }

// BindLocalStream wraps the writer of one RTP stream.
func (g *resendGate) BindLocalStream(_ *interceptor.StreamInfo, next interceptor.RTPWriter) interceptor.RTPWriter {
	var r resends
	return interceptor.RTPWriterFunc(func(h *rtp.Header, payload []byte, a interceptor.Attributes) (int, error) {
		now := time.Now()
		again, useful := r.note(h.SequenceNumber, now)
		if again && !(useful && g.sender.mayResend(len(payload)+40, now)) {
			return len(payload), nil // as if lost once more
		}
		return next.Write(h, payload, a)
	})
}

// resends remembers when the newest packets of one stream went, for the first and for
// the last time.
type resends struct {
	mu     sync.Mutex // guards what follows: the sender and the NACK responder write
	begun  bool
	newest uint16
	packet [1024]struct {
		seq         uint16
		first, last time.Time
	}
}

// note says whether a packet goes again, and whether that is of use now.
func (r *resends) note(seq uint16, now time.Time) (again, useful bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.packet[seq%uint16(len(r.packet))]
	if !r.begun || int16(seq-r.newest) > 0 {
		r.begun, r.newest = true, seq
		p.seq, p.first, p.last = seq, now, time.Time{}
		return false, true
	}
	if p.seq != seq || now.Sub(p.first) > resendTime || now.Sub(p.last) < resendPause {
		return true, false
	}
	p.last = now
	return true, true
}

// mayResend takes bytes from the allowance for packets sent again, and from that for
// new ones.
func (s *sender) mayResend(bytes int, now time.Time) bool {
	rate := s.bytesPerSecond()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resend = min(s.resend+rate*resendShare*now.Sub(s.resent).Seconds(), resendBurst)
	s.resent = now
	if s.resend < float64(bytes) {
		return false
	}
	s.resend -= float64(bytes)
	s.budget -= float64(bytes)
	return true
}
