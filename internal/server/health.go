package server

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/turnpike-rtc/turnpike/internal/door"
	"github.com/turnpike-rtc/turnpike/internal/session"
)

// readyPatience is how long the database may take to answer /readyz.
const readyPatience = 2 * time.Second

// mountHealth adds what operators and orchestrators look at: /healthz says the
// process lives, /readyz that it can serve, /metrics how it is doing.
func (s *Server) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			plain(w, http.StatusServiceUnavailable, "draining")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), readyPatience)
		defer cancel()
		if _, err := s.store.Revision(ctx); err != nil {
			s.log.Warn("not ready", "error", err)
			plain(w, http.StatusServiceUnavailable, "the database does not answer")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	scrape := promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !s.mayScrape(r) {
			door.Problem(w, http.StatusNotFound, "not_found", "There is nothing here.")
			return
		}
		scrape.ServeHTTP(w, r)
	})
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}

// mayScrape reports whether the caller is in one of the networks of metrics_from.
func (s *Server) mayScrape(r *http.Request) bool {
	from := door.ClientIP(r)
	if !from.IsValid() {
		return true // the control socket
	}
	for _, text := range s.config.Metrics {
		if network, err := netip.ParsePrefix(text); err == nil && network.Contains(from) {
			return true
		}
	}
	return false
}

// inside counts the sessions on this node by door, whenever it is asked.
type inside struct{ gate *session.Gate }

func (inside) desc() *prometheus.Desc {
	return prometheus.NewDesc("turnpike_sessions", "Sessions on this node, by door.", []string{"door"}, nil)
}

func (c inside) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc() }

func (c inside) Collect(ch chan<- prometheus.Metric) {
	doors := map[string]int{}
	for _, s := range c.gate.List() {
		doors[s.Door]++
	}
	for door, n := range doors {
		ch <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(n), door)
	}
}

func newMetrics(version, node string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	about := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "turnpike_build",
		Help:        "Always 1; the labels tell which version runs on which node.",
		ConstLabels: prometheus.Labels{"version": version, "node": node},
	})
	about.Set(1)
	r.MustRegister(about)
	return r
}
