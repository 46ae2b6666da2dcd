package device

import (
	"errors"
	"io"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

// maxTrickled bounds the candidates of one session that are looked at.
const maxTrickled = 64

// feedback reads what the client reports about a stream. Reading is also what makes
// the interceptors work.
func (v *Viewer) feedback(sender *webrtc.RTPSender, s *stream) {
	for {
		packets, _, err := sender.ReadRTCP()
		if err != nil {
			select {
			case <-v.quit:
				return
			default:
			}
			if closedPipe(err) {
				return
			}
			continue // a malformed report of the client
		}
		for _, p := range packets {
			switch p.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				s.requestKeyFrame()
			}
		}
	}
}

// trickle adds candidates the client found after its offer.
func (v *Viewer) trickle(fragment string) {
	if v == nil {
		return // the session has ended meanwhile
	}
	v.mu.Lock()
	found := candidates(fragment, maxTrickled-v.trickled)
	v.trickled += len(found)
	if !v.offered {
		v.early = append(v.early, found...)
		found = nil
	}
	v.mu.Unlock()
	v.addCandidates(found)
}

func (v *Viewer) addEarly() {
	v.mu.Lock()
	found := v.early
	v.early, v.offered = nil, true
	v.mu.Unlock()
	v.addCandidates(found)
}

func (v *Viewer) addCandidates(found []webrtc.ICECandidateInit) {
	for _, c := range found {
		if err := v.pc.AddICECandidate(c); err != nil {
			v.log.Debug("cannot use candidate", "error", err)
		}
	}
}

// closedPipe reports whether reading ended because the connection did.
func closedPipe(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)
}
