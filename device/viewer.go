package device

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/pion/interceptor/pkg/cc"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// connectTime is how long a client may take from the answer to the first connection.
const connectTime = 30 * time.Second

// Viewer is one client that is connected, or about to be. It is good until
// OnSessionEnd; after that its methods do nothing or return ErrNotOpen.
type Viewer struct {
	device  *Device
	id      string
	subject string
	log     *slog.Logger
	sender  *sender
	pc      *webrtc.PeerConnection

	begun chan struct{}  // closed when OnSessionStart has returned
	quit  chan struct{}  // closed when the session is to end
	up    chan struct{}  // one slot: the peer connection is connected
	work  sync.WaitGroup // the sender and the RTCP readers

	calls sync.Mutex // held during a callback, so that they come one at a time
	over  bool       // no more callbacks; guarded by calls

	mu       sync.Mutex // guards what follows; no other lock is taken while it is held
	reason   string     // why it ends, once quit is closed
	path     string     // signal.PathDirect or PathRelay, once connected
	live     bool       // tracks join their streams
	sections []*section
	dead     map[string]bool           // mids of sections that carry nothing and never will
	early    []webrtc.ICECandidateInit // came before the offer was set
	offered  bool                      // the offer is set
	trickled int                       // candidates looked at
	limiter  cc.BandwidthEstimator
	channels map[string]*webrtc.DataChannel
}

// section is a media section that carries a stream.
type section struct {
	mid     string
	track   *track
	sending bool
}

func newViewer(d *Device, session, subject string) *Viewer {
	v := &Viewer{
		device: d, id: session, subject: subject,
		log:      d.config.Log.With("device", d.ID(), "session", session),
		begun:    make(chan struct{}),
		quit:     make(chan struct{}),
		up:       make(chan struct{}, 1),
		channels: make(map[string]*webrtc.DataChannel),
		dead:     make(map[string]bool),
	}
	v.sender = newSender(v.Bitrate)
	return v
}

// ID returns the session id, as the server's list and audit trail have it.
func (v *Viewer) ID() string { return v.id }

// Subject returns who it is, as the app's connect token names them.
func (v *Viewer) Subject() string { return v.subject }

// Relayed reports whether media goes over a TURN server. It is false before the
// session has started.
func (v *Viewer) Relayed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.path == signal.PathRelay
}

// Bitrate returns the estimate of what the way to the viewer can carry, in bit/s.
func (v *Viewer) Bitrate() int {
	v.mu.Lock()
	limiter := v.limiter
	v.mu.Unlock()
	if limiter == nil {
		return startRate
	}
	return limiter.GetTargetBitrate()
}

// Stats returns how many frames of a stream went to the viewer, and how many it lost
// because it could not follow. Both are 0 for a stream it does not get.
func (v *Viewer) Stats(stream uint8) (sent, lost uint64) {
	v.mu.Lock()
	s := v.section(int(stream))
	v.mu.Unlock()
	if s == nil {
		return 0, 0
	}
	v.sender.mu.Lock()
	defer v.sender.mu.Unlock()
	return s.track.sent, s.track.lost
}

// section returns the section that carries a stream, or nil. The caller holds mu.
func (v *Viewer) section(stream int) *section {
	for _, s := range v.sections {
		if int(s.track.stream.id) == stream {
			return s
		}
	}
	return nil
}

// Close ends the session. It returns at once; OnSessionEnd tells when it is over.
func (v *Viewer) Close() { v.end("device") }

// end closes quit. The first reason stays.
func (v *Viewer) end(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.reason == "" {
		v.reason = reason
		close(v.quit)
	}
}

// run is the whole life of a session, and owns all that it starts.
func (v *Viewer) run(o *signal.Offer, servers []signal.ICEServer) {
	answer, err := v.accept(o, servers)
	if err != nil {
		v.log.Info("client refused", "cause", err)
		no := refusal{"failed", "the device cannot answer"}
		errors.As(err, &no)
		v.release()
		v.device.report(signal.Refuse{Session: v.id, Code: no.code, Message: no.message})
		return
	}
	v.device.report(signal.Answer{Session: v.id, SDP: answer})

	timeout := time.NewTimer(connectTime)
	defer timeout.Stop()
	select {
	case <-v.up:
		v.start()
		<-v.quit
	case <-timeout.C:
		v.end("failed")
	case <-v.quit:
	}
	v.release()
	v.device.report(signal.Closed{Session: v.id, Reason: v.reason})
	v.log.Info("viewer left", "reason", v.reason)
}

// start is what happens when the peer connection is up: the application learns of it,
// and media begins to flow.
func (v *Viewer) start() {
	path := signal.PathDirect
	if pair, err := v.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair(); err == nil && pair != nil &&
		(pair.Local.Typ == webrtc.ICECandidateTypeRelay || pair.Remote.Typ == webrtc.ICECandidateTypeRelay) {
		path = signal.PathRelay
	}
	v.mu.Lock()
	v.path = path
	v.mu.Unlock()
	v.device.report(signal.Connected{Session: v.id, Path: path})
	v.log.Info("viewer connected", "subject", v.subject, "path", path)
	if f := v.device.config.OnSessionStart; f != nil {
		v.calls.Lock()
		f(v)
		v.calls.Unlock()
	}
	close(v.begun)

	v.mu.Lock()
	v.live = true
	sections := v.sections
	v.mu.Unlock()
	for _, s := range sections {
		v.feed(s)
	}
	v.work.Go(func() { v.sender.run(v.quit) })
}

// feed lets a section's track join its stream, if it is to be sent and the session
// is live.
func (v *Viewer) feed(s *section) {
	v.mu.Lock()
	join := v.live && s.sending && v.reason == ""
	v.mu.Unlock()
	if join {
		s.track.stream.join(s.track)
	}
}

// release gives back everything: the connection first, whose callbacks could otherwise
// begin something new, then what feeds it, at last the place among the viewers.
func (v *Viewer) release() {
	v.end("failed") // for those who wait for quit, when the offer was refused
	if v.pc != nil {
		if err := v.pc.GracefulClose(); err != nil {
			v.log.Debug("cannot close peer connection", "error", err)
		}
	}
	v.mu.Lock()
	sections := v.sections
	v.mu.Unlock()
	for _, s := range sections {
		s.track.stream.leave(s.track)
	}
	v.work.Wait()

	v.calls.Lock()
	v.over = true
	select {
	case <-v.begun:
		if f := v.device.config.OnSessionEnd; f != nil {
			f(v, v.reason)
		}
	default:
	}
	v.calls.Unlock()

	d := v.device
	d.mu.Lock()
	delete(d.viewers, v.id)
	d.mu.Unlock()
}

// call runs a callback after OnSessionStart, before OnSessionEnd, and not beside
// another one of this viewer.
func (v *Viewer) call(f func()) {
	select {
	case <-v.begun:
	case <-v.quit:
		return
	}
	v.calls.Lock()
	defer v.calls.Unlock()
	if !v.over {
		f()
	}
}
