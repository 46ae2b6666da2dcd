// Package rtc is where the media ports live: one UDP and one TCP port for all
// WebRTC traffic. Today they answer STUN Binding requests (RFC 8489), by which
// devices and clients learn their public addresses; peers that end at this
// server will share the same two ports.
//
// Only well-formed Binding requests get an answer, which is hardly larger than
// the request, and no source gets many: the ports are of no use to anyone who
// wants to flood a third party.
package rtc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config names the two ports. An empty address leaves that port closed.
type Config struct {
	UDP     string // address, ":5082"
	TCP     string // address, ":5082"
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
}

// Engine owns the media ports.
type Engine struct {
	cfg    Config
	meter  *meter
	udp    *net.UDPConn
	tcp    net.Listener
	counts *prometheus.CounterVec
	conns  *connections
}

// New returns an engine. Nothing is bound before Open or Serve.
func New(cfg Config) *Engine {
	e := &Engine{cfg: cfg, meter: newMeter(time.Now), conns: newConnections()}
	e.counts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "turnpike_stun_packets_total",
		Help: "Packets on the media ports, by transport and by what became of them.",
	}, []string{"transport", "result"})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(e.counts)
	}
	return e
}

// Open binds the ports, so that one in use is reported before anything else
// starts. Serve does it when it was not done.
func (e *Engine) Open() error {
	if e.cfg.UDP != "" && e.udp == nil {
		c, err := net.ListenPacket("udp", e.cfg.UDP)
		if err != nil {
			return fmt.Errorf("cannot open media port: %w", err)
		}
		e.udp = c.(*net.UDPConn)
	}
	if e.cfg.TCP != "" && e.tcp == nil {
		l, err := net.Listen("tcp", e.cfg.TCP)
		if err != nil {
			e.Close()
			return fmt.Errorf("cannot open media port: %w", err)
		}
		e.tcp = l
	}
	return nil
}

// Close lets go of what Open bound, for a caller that will not call Serve.
func (e *Engine) Close() {
	if e.udp != nil {
		e.udp.Close()
	}
	if e.tcp != nil {
		e.tcp.Close()
	}
}

// Addr is the bound address of "udp" or "tcp"; empty when that port is closed, or
// before Open.
func (e *Engine) Addr(network string) string {
	switch {
	case network == "udp" && e.udp != nil:
		return e.udp.LocalAddr().String()
	case network == "tcp" && e.tcp != nil:
		return e.tcp.Addr().String()
	}
	return ""
}

// Serve answers until ctx ends.
func (e *Engine) Serve(ctx context.Context) error {
	if err := e.Open(); err != nil {
		return err
	}
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	if e.udp != nil {
		serving.Go(func() { failed <- e.serveUDP() })
	}
	if e.tcp != nil {
		serving.Go(func() { failed <- e.serveTCP() })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	e.Close()
	e.conns.closeAll()
	serving.Wait()
	return err
}

// serveUDP answers in the order of arrival; a packet that finds the socket's
// buffer full is lost, and the client repeats it.
func (e *Engine) serveUDP() error {
	in, out := make([]byte, maxPacket), make([]byte, 0, maxAnswer)
	for {
		n, from, err := e.udp.ReadFromUDPAddrPort(in)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			continue // what an earlier answer met on its way, reported here
		}
		answer, result := e.answer(out, in[:n], from)
		e.counts.WithLabelValues("udp", result).Inc()
		if answer != nil {
			e.udp.WriteToUDPAddrPort(answer, from)
		}
	}
}

// What became of a packet, as metric labels.
const (
	answered = "answered"
	ignored  = "ignored" // not a Binding request
	limited  = "limited" // too many from its source
)

func (e *Engine) answer(out, packet []byte, from netip.AddrPort) ([]byte, string) {
	from = netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port())
	if !looksLikeRequest(packet) {
		return nil, ignored
	}
	if !e.meter.allow(from.Addr()) {
		return nil, limited
	}
	answer, ok := bindingAnswer(out[:0], packet, from)
	if !ok {
		return nil, ignored
	}
	return answer, answered
}
