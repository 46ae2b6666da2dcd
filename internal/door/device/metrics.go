package device

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// counters are the door's metrics.
type counters struct {
	offers *prometheus.CounterVec
	paths  *prometheus.CounterVec
}

func newCounters(to prometheus.Registerer, d *Door) *counters {
	c := &counters{
		offers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turnpike_device_offers_total", Help: "Offers of admitted clients to devices, by what became of them.",
		}, []string{"result"}),
		paths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turnpike_device_connections_total", Help: "Connections between devices and clients, by the path media takes.",
		}, []string{"path"}),
	}
	if to == nil {
		return c
	}
	to.MustRegister(c.offers, c.paths, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "turnpike_devices_online", Help: "Devices connected to this node.",
	}, func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.online))
	}))
	return c
}

func (c *counters) offer(result string) { c.offers.WithLabelValues(result).Inc() }

// connected counts a path; what a device calls it is bounded to what there is.
func (c *counters) connected(path string) {
	if path != signal.PathRelay {
		path = signal.PathDirect
	}
	c.paths.WithLabelValues(path).Inc()
}
