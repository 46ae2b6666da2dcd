package server

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/store"
	"github.com/turnpike-rtc/turnpike/token"
)

// ledger is the store as the gate and the doors see it, with a count of what
// passes: who was let in, who was not and why.
type ledger struct {
	*store.Store
	admitted *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newLedger(s *store.Store, metrics prometheus.Registerer) *ledger {
	l := &ledger{
		Store: s,
		admitted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turnpike_admissions_total", Help: "Callers let in, by door.",
		}, []string{"door"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turnpike_refusals_total", Help: "Callers turned away, by door and true reason.",
		}, []string{"door", "reason"}),
	}
	metrics.MustRegister(l.admitted, l.refused)
	return l
}

// Admit is the store's, counted.
func (l *ledger) Admit(ctx context.Context, a access.Admission) (int64, error) {
	revision, err := l.Store.Admit(ctx, a)
	switch {
	case err == nil:
		l.admitted.WithLabelValues(a.Door).Inc()
	case errors.Is(err, token.ErrSpent):
		l.refused.WithLabelValues(a.Door, token.Reason(token.ErrSpent)).Inc()
	}
	return revision, err
}

// Note is the store's, counted.
func (l *ledger) Note(ctx context.Context, e access.Event) error {
	if e.Kind == "refused" {
		l.refused.WithLabelValues(e.Door, e.Reason).Inc()
	}
	return l.Store.Note(ctx, e)
}
