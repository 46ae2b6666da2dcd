package device

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// gatherTime is how long the answer waits for candidates.
const gatherTime = 500 * time.Millisecond

// refusal is an error with the code and words the client is told.
type refusal struct{ code, message string }

func (r refusal) Error() string { return r.code + ": " + r.message }

// accept makes the peer connection and the answer to the offer.
func (v *Viewer) accept(o *signal.Offer, servers []signal.ICEServer) (string, error) {
	sections, err := parseOffer(o.SDP)
	if err != nil {
		return "", errors.Join(refusal{"bad_offer", "the SDP offer cannot be used"}, err)
	}
	if err := v.connect(sections, servers); err != nil {
		return "", err
	}
	answer, err := v.negotiate(o.SDP, sections, o.Streams)
	if err != nil {
		return "", err
	}
	if v.playable(sections) {
		return answer, nil
	}
	return "", refusal{"unsupported", "the offer has none of the codecs the device sends"}
}

// playable reports whether the client gets something: a stream, or at least data
// channels.
func (v *Viewer) playable(sections []offered) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range sections {
		if s.kind == "" {
			return true
		}
	}
	return len(v.sections) > 0
}

// negotiate sets an offer, gives its new media sections their streams, and returns
// the answer with the candidates found in gatherTime.
func (v *Viewer) negotiate(text string, sections []offered, wanted *signal.Wanted) (string, error) {
	if err := v.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: text}); err != nil {
		return "", errors.Join(refusal{"bad_offer", "the SDP offer cannot be used"}, err)
	}
	byMid := make(map[string]*webrtc.RTPTransceiver)
	for _, t := range v.pc.GetTransceivers() {
		byMid[t.Mid()] = t
	}
	if err := v.fillAll(sections, wanted, byMid); err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(v.pc)
	answer, err := v.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("cannot answer: %w", err)
	}
	if err := v.pc.SetLocalDescription(answer); err != nil {
		return "", fmt.Errorf("cannot answer: %w", err)
	}
	v.addEarly()
	timeout := time.NewTimer(gatherTime)
	defer timeout.Stop()
	select {
	case <-gathered:
	case <-timeout.C:
	case <-v.quit:
	}
	return v.pc.LocalDescription().SDP, nil
}

// choice is what a section carries: a stream, and the offered codec it goes out as. The
// zero value leaves it empty.
type choice struct {
	stream *stream
	codec  offeredCodec
}

// plan decides, by mid, what each new section carries: the streams asked for in order,
// or else those with the lowest ids.
func (v *Viewer) plan(sections []offered, wanted *signal.Wanted) map[string]choice {
	v.mu.Lock()
	has := maps.Clone(v.dead) // by mid
	taken := make(map[*stream]bool)
	for _, s := range v.sections {
		has[s.mid], taken[s.track.stream] = true, true
	}
	v.mu.Unlock()

	plan := make(map[string]choice)
	nth := make(map[media.Kind]int)
	for _, o := range sections {
		if o.kind == "" {
			continue
		}
		s := v.device.nth(o.kind, nth[o.kind], wanted)
		nth[o.kind]++
		if has[o.mid] {
			continue
		}
		var next choice
		if s != nil && o.receives && !taken[s] {
			if c, ok := o.pick(s.wire, s.profileLevelID()); ok && v.allows(s) == nil {
				next = choice{s, c}
				taken[s] = true
			}
		}
		if next.stream == nil {
			v.mu.Lock()
			v.dead[o.mid] = true
			v.mu.Unlock()
		}
		plan[o.mid] = next
	}
	return plan
}

// nth returns the stream for the nth section of a kind, or nil.
func (d *Device) nth(kind media.Kind, n int, wanted *signal.Wanted) *stream {
	var ids []int
	if wanted != nil && kind == media.Video {
		ids = wanted.Video
	} else if wanted != nil {
		ids = wanted.Audio
	}
	if len(ids) == 0 {
		for _, s := range d.streams {
			if s.wire.Kind() == kind {
				ids = append(ids, int(s.id))
			}
		}
	}
	if n >= len(ids) {
		return nil
	}
	if s := d.stream(ids[n]); s != nil && s.wire.Kind() == kind {
		return s
	}
	return nil
}

// allows asks the application whether the viewer may have a stream.
func (v *Viewer) allows(s *stream) error {
	f := v.device.config.OnSubscribe
	if f == nil {
		return nil
	}
	v.calls.Lock()
	defer v.calls.Unlock()
	if v.over {
		return ErrNotOpen
	}
	return f(v, s.id)
}

// fillAll gives each section its track. pion puts a track into the first section of its
// kind that has none, so that those which are to stay empty get a placeholder until
// all others have theirs.
func (v *Viewer) fillAll(sections []offered, wanted *signal.Wanted, byMid map[string]*webrtc.RTPTransceiver) error {
	plan := v.plan(sections, wanted)
	var empty []*webrtc.RTPSender
	for _, o := range sections {
		t, c := byMid[o.mid], plan[o.mid]
		switch {
		case t == nil || o.kind == "" || t.Sender() != nil: // not media, or filled before
		case c.stream != nil:
			if err := v.fill(t, o.mid, c); err != nil {
				return err
			}
		case !o.receives:
			if err := t.Stop(); err != nil {
				return fmt.Errorf("cannot close section: %w", err)
			}
		default:
			sender, err := v.occupy(t, placeholder(o.kind))
			if err != nil {
				return err
			}
			empty = append(empty, sender)
		}
	}
	for _, sender := range empty {
		if err := v.pc.RemoveTrack(sender); err != nil {
			return fmt.Errorf("cannot leave section empty: %w", err)
		}
	}
	return nil
}

// placeholder is a track that is never sent.
func placeholder(kind media.Kind) webrtc.TrackLocal {
	codec := media.H264
	if kind == media.Audio {
		codec = media.ALaw
	}
	// The error is always nil: it is there for options, of which there are none.
	t, _ := webrtc.NewTrackLocalStaticRTP(parameters(codec, offeredCodec{}).RTPCodecCapability, "none", "none")
	return t
}

// fill puts a stream's track into a section.
func (v *Viewer) fill(t *webrtc.RTPTransceiver, mid string, c choice) error {
	params := parameters(c.stream.wire, c.codec)
	kind := c.stream.wire.Kind()
	local, err := webrtc.NewTrackLocalStaticRTP(params.RTPCodecCapability,
		fmt.Sprintf("%s-%d", kind, c.stream.id), fmt.Sprintf("stream-%d", c.stream.id))
	if err != nil {
		return fmt.Errorf("cannot make track: %w", err)
	}
	sender, err := v.occupy(t, local)
	if err != nil {
		return err
	}
	if err := t.SetCodecPreferences([]webrtc.RTPCodecParameters{params}); err != nil {
		return errors.Join(refusal{"unsupported", "the offered codecs do not fit"}, err)
	}
	s := &section{mid: mid, track: newTrack(c.stream, local, v.sender, v.device.config.SendBuffer), sending: true}
	v.sender.add(s.track)
	v.mu.Lock()
	v.sections = append(v.sections, s)
	v.mu.Unlock()
	v.work.Go(func() { v.feedback(sender, c.stream) })
	v.feed(s)
	return nil
}

// occupy adds a track to the connection and checks that it went into the section meant.
func (v *Viewer) occupy(t *webrtc.RTPTransceiver, local webrtc.TrackLocal) (*webrtc.RTPSender, error) {
	sender, err := v.pc.AddTrack(local)
	if err != nil {
		return nil, fmt.Errorf("cannot add track: %w", err)
	}
	if t.Sender() != sender {
		return nil, refusal{"unsupported", "the order of the media sections"}
	}
	return sender, nil
}
