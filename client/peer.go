package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// channelTime is how long a device without data channels is waited for.
const channelTime = 2 * time.Second

// peer is one peer connection with the device. A resumed connection is a new one.
type peer struct {
	conn    *Conn
	pc      *webrtc.PeerConnection
	ctx     context.Context // ends with the peer
	cancel  context.CancelFunc
	offered map[uint8]bool // streams with a section in the first offer
	work    sync.WaitGroup // readers and deliverers

	up   chan struct{} // closed when connected
	open chan struct{} // closed when the three channels are
	lost chan struct{} // closed when the connection is over, by whomever

	control, command, message *webrtc.DataChannel

	negotiation sync.Mutex // held during an offer and its answer

	mu       sync.Mutex // guards what follows
	order    map[media.Kind][]int
	trickled []string // candidates nobody has sent yet
	gathered bool
	found    chan struct{} // one slot: trickled or gathered has changed
	unopened int           // channels that are not open yet
	isUp     bool
	isLost   bool
	greeted  bool // the device has said which streams it has
	last     int64
	pending  map[int64]chan signal.Message
}

func (c *Conn) newPeer() (*peer, error) {
	p := &peer{
		conn: c, offered: make(map[uint8]bool), order: make(map[media.Kind][]int),
		up: make(chan struct{}), open: make(chan struct{}), lost: make(chan struct{}),
		found: make(chan struct{}, 1), unopened: 3, pending: make(map[int64]chan signal.Message),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	api, err := c.api()
	if err != nil {
		p.cancel()
		return nil, err
	}
	if p.pc, err = api.NewPeerConnection(webrtc.Configuration{ICEServers: iceServers(c.config.ICEServers)}); err != nil {
		p.cancel()
		return nil, fmt.Errorf("cannot make peer connection: %w", err)
	}
	p.pc.OnConnectionStateChange(p.changed)
	p.pc.OnICECandidate(p.candidate)
	p.pc.OnTrack(p.track)
	if err := p.channels(); err != nil {
		p.close()
		return nil, err
	}
	for _, kind := range []media.Kind{media.Video, media.Audio} {
		for _, id := range c.attached(kind) {
			if _, err := p.section(kind, id); err != nil {
				p.close()
				return nil, err
			}
			p.offered[uint8(id)] = true
		}
	}
	return p, nil
}

// api builds a pion API with the codecs and interceptors of a receiver: NACK, reports,
// and the transport-wide feedback the device's bandwidth estimate lives on.
func (c *Conn) api() (*webrtc.API, error) {
	engine := new(webrtc.MediaEngine)
	for i, profile := range []string{"42e01f", "42c01f", "42001f", "4d001f", "64001f"} {
		p := webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(102 + i)}
		p.MimeType, p.ClockRate = webrtc.MimeTypeH264, media.H264.ClockRate()
		p.SDPFmtpLine = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=" + profile
		p.RTCPFeedback = []webrtc.RTCPFeedback{{Type: "nack", Parameter: "pli"}}
		if err := engine.RegisterCodec(p, webrtc.RTPCodecTypeVideo); err != nil {
			return nil, fmt.Errorf("cannot register codec: %w", err)
		}
	}
	for _, codec := range []media.Codec{media.ALaw, media.G722} {
		p := webrtc.RTPCodecParameters{PayloadType: webrtc.PayloadType(codec.PayloadType())}
		p.MimeType, p.ClockRate = "audio/"+string(codec), codec.ClockRate()
		if err := engine.RegisterCodec(p, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, fmt.Errorf("cannot register codec: %w", err)
		}
	}
	quiet := &logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}
	registry := new(interceptor.Registry)
	err := errors.Join(
		webrtc.ConfigureNackWithOptions(engine, registry, []nack.GeneratorOption{nack.WithGeneratorLoggerFactory(quiet)},
			nack.WithResponderLoggerFactory(quiet)),
		webrtc.ConfigureRTCPReportsWithOptions(registry, []report.ReceiverOption{report.WithReceiverLoggerFactory(quiet)},
			report.WithSenderLoggerFactory(quiet)),
		webrtc.ConfigureTWCCSenderWithOptions(engine, registry, twcc.WithLoggerFactory(quiet)),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot set up interceptors: %w", err)
	}
	var s webrtc.SettingEngine
	s.LoggerFactory = quiet
	s.SetICETimeouts(3*time.Second, 6*time.Second, time.Second)
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIncludeLoopbackCandidate(c.local)
	// A direct path is nominated as soon as it is found; only a relay waits a little
	// for something better.
	s.SetSrflxAcceptanceMinWait(100 * time.Millisecond)
	s.SetPrflxAcceptanceMinWait(100 * time.Millisecond)
	s.SetRelayAcceptanceMinWait(time.Second)
	return webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(s)), nil
}

// section adds a media section for a stream.
func (p *peer) section(kind media.Kind, id int) (*webrtc.RTPTransceiver, error) {
	t, err := p.pc.AddTransceiverFromKind(webrtc.NewRTPCodecType(string(kind)),
		webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
	if err != nil {
		return nil, fmt.Errorf("cannot add media section: %w", err)
	}
	p.mu.Lock()
	p.order[kind] = append(p.order[kind], id)
	p.mu.Unlock()
	return t, nil
}

// wanted lists the stream of each media section so far, by kind, in order.
func (p *peer) wanted() signal.Wanted {
	p.mu.Lock()
	defer p.mu.Unlock()
	return signal.Wanted{Video: append([]int(nil), p.order[media.Video]...), Audio: append([]int(nil), p.order[media.Audio]...)}
}

// offer makes the SDP offer. It has no candidates yet: how they are found, the server
// says with its answer, and they are trickled.
func (p *peer) offer() (webrtc.SessionDescription, error) {
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return offer, fmt.Errorf("cannot make offer: %w", err)
	}
	return offer, nil
}

// gather begins to look for candidates, with the help of the servers that the answer
// names.
func (p *peer) gather(offer webrtc.SessionDescription, servers []ICEServer) error {
	config := p.pc.GetConfiguration()
	config.ICEServers = append(config.ICEServers, iceServers(servers)...)
	if err := p.pc.SetConfiguration(config); err != nil {
		return fmt.Errorf("cannot use the server's ICE servers: %w", err)
	}
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("cannot make offer: %w", err)
	}
	return nil
}

func iceServers(servers []ICEServer) (all []webrtc.ICEServer) {
	for _, s := range servers {
		all = append(all, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	return all
}

// connect sets the answer and waits until the connection is up.
func (p *peer) connect(ctx context.Context, s *session) error {
	answer := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: s.answer}
	if err := p.pc.SetRemoteDescription(answer); err != nil {
		return fmt.Errorf("cannot use the device's answer: %w", err)
	}
	p.work.Go(func() { p.trickle(s) })
	select {
	case <-p.up:
	case <-p.lost:
		return fmt.Errorf("cannot reach the device: %w", ErrLost)
	case <-ctx.Done():
		return ctx.Err()
	}
	timer := time.NewTimer(channelTime)
	defer timer.Stop()
	select {
	case <-p.open:
	case <-timer.C:
	case <-p.lost:
		return fmt.Errorf("cannot reach the device: %w", ErrLost)
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// candidate notes a candidate for trickling; nil says there are no more.
func (p *peer) candidate(c *webrtc.ICECandidate) {
	p.mu.Lock()
	if c == nil {
		p.gathered = true
	} else {
		p.trickled = append(p.trickled, c.ToJSON().Candidate)
	}
	p.mu.Unlock()
	select {
	case p.found <- struct{}{}:
	default:
	}
}

// trickle sends the candidates as they are found. Without them another path may still
// be found, so errors are only noted.
func (p *peer) trickle(s *session) {
	for {
		p.mu.Lock()
		late, done := p.trickled, p.gathered
		p.trickled = nil
		p.mu.Unlock()
		if len(late) > 0 {
			ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
			if err := s.trickle(ctx, fragment(p.pc.LocalDescription().SDP, late)); err != nil && p.ctx.Err() == nil {
				p.conn.config.Log.Debug("cannot trickle candidates", "error", err)
			}
			cancel()
		}
		if done {
			return
		}
		select {
		case <-p.found:
		case <-p.ctx.Done():
			return
		}
	}
}

// fragment writes candidates as RFC 8840, 9 has them: with the credentials and the
// first section of the offer they belong to.
func fragment(offer string, candidates []string) string {
	var head, mid string
	for line := range strings.Lines(offer) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "a=ice-ufrag:"), strings.HasPrefix(line, "a=ice-pwd:"):
			if !strings.Contains(head, line) {
				head += line + "\r\n"
			}
		case strings.HasPrefix(line, "a=mid:") && mid == "":
			mid = line + "\r\n"
		}
	}
	var b strings.Builder
	b.WriteString(head + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" + mid)
	for _, c := range candidates {
		b.WriteString("a=" + c + "\r\n")
	}
	return b.String()
}

// changed follows the state of the peer connection. Three seconds without a sign of
// the device count as lost: to resume is cheaper than to wait.
func (p *peer) changed(s webrtc.PeerConnectionState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch s {
	case webrtc.PeerConnectionStateConnected:
		if !p.isUp {
			p.isUp = true
			close(p.up)
		}
	case webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
		if !p.isLost {
			p.isLost = true
			close(p.lost)
		}
	}
}

// close ends the peer connection and waits for all its goroutines.
func (p *peer) close() {
	p.cancel()
	if err := p.pc.GracefulClose(); err != nil {
		p.conn.config.Log.Debug("cannot close peer connection", "error", err)
	}
	p.work.Wait()
}

// streamOf reads the stream id of an a=msid "stream-<id>".
func streamOf(msid string) (uint8, bool) {
	digits, ok := strings.CutPrefix(msid, "stream-")
	n, err := strconv.ParseUint(digits, 10, 8)
	return uint8(n), ok && err == nil
}
