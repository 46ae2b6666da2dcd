package device

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/cc"
	"github.com/pion/interceptor/pkg/gcc"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

const (
	startRate   = 4_000_000 // bit/s: generous, feedback corrects it within a second
	highestRate = 50_000_000
)

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
// use, so that the answer names nothing else. For an offer without video it knows the
// usual profiles, one of which a later offer will have.
func (v *Viewer) mediaEngine(sections []offered) (*webrtc.MediaEngine, error) {
	engine := new(webrtc.MediaEngine)
	for _, s := range v.device.streams {
		for _, c := range v.payloads(s, sections) {
			err := engine.RegisterCodec(parameters(s.wire, c), webrtc.NewRTPCodecType(string(s.wire.Kind())))
			if err != nil && !errors.Is(err, webrtc.ErrCodecAlreadyRegistered) {
				return nil, fmt.Errorf("cannot register codec: %w", err)
			}
		}
	}
	return engine, nil
}

// payloads returns the payload types that may carry a stream.
func (v *Viewer) payloads(s *stream, sections []offered) []offeredCodec {
	for _, o := range sections {
		if c, ok := o.pick(s.wire, s.profileLevelID()); ok {
			return []offeredCodec{c}
		}
	}
	if s.wire != media.H264 {
		return []offeredCodec{{payload: s.wire.PayloadType()}}
	}
	var all []offeredCodec
	for i, profile := range []string{"42e01f", "42c01f", "42001f", "4d001f", "4d401f", "64001f", "640c1f"} {
		all = append(all, offeredCodec{payload: uint8(102 + i), fmtp: "packetization-mode=1;profile-level-id=" + profile})
	}
	return all
}

// parameters writes an offered codec as pion has it.
func parameters(wire media.Codec, c offeredCodec) webrtc.RTPCodecParameters {
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
