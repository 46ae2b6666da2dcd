package device

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/cc"
	"github.com/pion/interceptor/pkg/gcc"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/logging"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

const (
	gatherTime  = 500 * time.Millisecond // for candidates, before the answer goes
	maxTrickled = 64                     // candidates of one session that are looked at
	startRate   = 4_000_000              // bit/s: generous, feedback corrects it within a second
	highestRate = 50_000_000
)

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

// connect makes the peer connection with the codecs of the offer.
func (v *Viewer) connect(sections []offered, servers []signal.ICEServer) error {
	engine, err := v.mediaEngine(sections)
	if err != nil {
		return err
	}
	registry, err := v.interceptors(engine)
	if err != nil {
		return err
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry),
		webrtc.WithSettingEngine(v.device.settings()))
	config := webrtc.Configuration{}
	for _, s := range servers {
		config.ICEServers = append(config.ICEServers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	if v.pc, err = api.NewPeerConnection(config); err != nil {
		return fmt.Errorf("cannot make peer connection: %w", err)
	}
	v.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			select {
			case v.up <- struct{}{}:
			default:
			}
		case webrtc.PeerConnectionStateFailed:
			v.end("failed")
		case webrtc.PeerConnectionStateClosed:
			v.end("remote")
		}
	})
	v.pc.OnDataChannel(v.open)
	return nil
}

// settings are those of all peer connections of the device.
func (d *Device) settings() webrtc.SettingEngine {
	var s webrtc.SettingEngine
	s.LoggerFactory = &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	// Active even though the offer leaves the choice: protocol/device.md, 1.3.
	_ = s.SetAnsweringDTLSRole(webrtc.DTLSRoleClient)
	s.SetICETimeouts(5*time.Second, 10*time.Second, 2*time.Second)
	s.SetSTUNGatherTimeout(gatherTime)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	// Browsers hide their addresses behind mDNS names. They reach the device by its
	// own, so there is no need to resolve those, nor for a socket per viewer to do it.
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(d.local)
	return s
}

// mediaEngine knows exactly the payload types of the offer that the device's streams
// use, so that the answer names nothing else.
func (v *Viewer) mediaEngine(sections []offered) (*webrtc.MediaEngine, error) {
	engine := new(webrtc.MediaEngine)
	for _, s := range v.device.streams {
		c := codec{payload: s.wire.PayloadType()}
		if s.wire == media.H264 { // for an offer that has no video yet
			c = codec{payload: 102, fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}
		}
		for _, o := range sections {
			if found, ok := o.pick(s.wire, s.profileLevelID()); ok {
				c = found
				break
			}
		}
		err := engine.RegisterCodec(parameters(s.wire, c), webrtc.NewRTPCodecType(string(s.wire.Kind())))
		if err != nil && !errors.Is(err, webrtc.ErrCodecAlreadyRegistered) {
			return nil, fmt.Errorf("cannot register codec: %w", err)
		}
	}
	return engine, nil
}

// parameters writes an offered codec as pion has it.
func parameters(wire media.Codec, c codec) webrtc.RTPCodecParameters {
	p := webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(c.payload)}
	p.MimeType = string(wire.Kind()) + "/" + string(wire)
	p.ClockRate = wire.ClockRate()
	p.SDPFmtpLine = c.fmtp
	p.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "transport-cc"}}
	if wire == media.H264 {
		p.RTCPFeedback = append(p.RTCPFeedback, webrtc.RTCPFeedback{Type: "nack"},
			webrtc.RTCPFeedback{Type: "nack", Parameter: "pli"}, webrtc.RTCPFeedback{Type: "ccm", Parameter: "fir"})
	}
	return p
}

// interceptors answer NACKs, write sender reports and estimate the bandwidth. The
// estimator is registered first and so comes last on the way out: it must see the
// sequence numbers the next one puts on.
func (v *Viewer) interceptors(engine *webrtc.MediaEngine) (*interceptor.Registry, error) {
	registry := new(interceptor.Registry)
	quiet := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	estimator, err := cc.NewInterceptor(func() (cc.BandwidthEstimator, error) {
		return gcc.NewSendSideBWE(gcc.SendSideBWEInitialBitrate(startRate), gcc.SendSideBWEMinBitrate(slowestRate),
			gcc.SendSideBWEMaxBitrate(highestRate), gcc.SendSideBWEPacer(gcc.NewNoOpPacer()), gcc.WithLoggerFactory(quiet))
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make bandwidth estimator: %w", err)
	}
	estimator.OnNewPeerConnection(func(_ string, e cc.BandwidthEstimator) {
		v.mu.Lock()
		v.limiter = e
		v.mu.Unlock()
	})
	registry.Add(estimator)
	if err := webrtc.ConfigureTWCCHeaderExtensionSender(engine, registry); err != nil {
		return nil, fmt.Errorf("cannot register transport-cc: %w", err)
	}
	registry.Add(&resendGate{sender: v.sender})
	reports, err := report.NewSenderInterceptor(report.WithSenderLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("cannot make sender reports: %w", err)
	}
	registry.Add(reports)
	responder, err := nack.NewResponderInterceptor(nack.WithResponderLoggerFactory(quiet))
	if err != nil {
		return nil, fmt.Errorf("cannot make NACK responder: %w", err)
	}
	registry.Add(responder)
	return registry, nil
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
	for _, c := range v.plan(sections, wanted) {
		if err := v.fill(byMid[c.mid], c); err != nil {
			return "", err
		}
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

// choice is what a section carries: a stream, and the offered codec it goes out as. A
// nil stream leaves the section inactive.
type choice struct {
	mid    string
	kind   media.Kind
	stream *stream
	codec  codec
}

// plan decides what each new section carries, in order: the streams asked for, or else
// those with the lowest ids.
func (v *Viewer) plan(sections []offered, wanted *signal.Wanted) []choice {
	v.mu.Lock()
	has := maps.Clone(v.dead) // by mid
	taken := make(map[*stream]bool)
	for _, s := range v.sections {
		has[s.mid], taken[s.track.stream] = true, true
	}
	v.mu.Unlock()

	var plan []choice
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
		next := choice{mid: o.mid, kind: o.kind}
		if s != nil && o.receives && !taken[s] {
			if c, ok := o.pick(s.wire, s.profileLevelID()); ok && v.allows(s) == nil {
				next.stream, next.codec = s, c
				taken[s] = true
			}
		}
		plan = append(plan, next)
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

// fill puts a stream's track into a section, or closes the section.
func (v *Viewer) fill(t *webrtc.RTPTransceiver, c choice) error {
	if t == nil {
		return nil // the client rejected the section itself
	}
	if c.stream == nil {
		return v.closeSection(t, c)
	}
	params := parameters(c.stream.wire, c.codec)
	local, err := webrtc.NewTrackLocalStaticRTP(params.RTPCodecCapability,
		fmt.Sprintf("%s-%d", c.kind, c.stream.id), fmt.Sprintf("stream-%d", c.stream.id))
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
	s := &section{mid: c.mid, track: newTrack(c.stream, local, v.sender, v.device.config.SendBuffer), sending: true}
	v.sender.add(s.track)
	v.mu.Lock()
	v.sections = append(v.sections, s)
	v.mu.Unlock()
	v.work.Go(func() { v.feedback(sender, c.stream) })
	v.feed(s)
	return nil
}

// closeSection answers a section with inactive. pion gives a track to the first
// section of its kind that has none, a stopped one included, so the section gets one
// before it is stopped: the next then goes where it should.
func (v *Viewer) closeSection(t *webrtc.RTPTransceiver, c choice) error {
	codec := media.H264
	if c.kind == media.Audio {
		codec = media.ALaw
	}
	none, err := webrtc.NewTrackLocalStaticRTP(parameters(codec, c.codec).RTPCodecCapability, "none", "none")
	if err != nil {
		return fmt.Errorf("cannot make track: %w", err)
	}
	v.mu.Lock()
	v.dead[c.mid] = true
	v.mu.Unlock()
	if t.Direction() == webrtc.RTPTransceiverDirectionSendonly || t.Direction() == webrtc.RTPTransceiverDirectionSendrecv {
		if _, err := v.occupy(t, none); err != nil {
			return err
		}
	}
	if err := t.Stop(); err != nil {
		return fmt.Errorf("cannot close section: %w", err)
	}
	return nil
}

// occupy adds a track to the connection, which pion puts into the first free section
// of its kind, and checks that it is the one meant.
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
