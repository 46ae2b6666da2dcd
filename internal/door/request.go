package door

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type addrKey struct{}

// wrap is what every request passes on its way to the doors.
func (w *Web) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen := &answer{ResponseWriter: rw}
		defer func() { w.metrics.count(seen.status) }()
		defer w.recover(seen, r)
		h := rw.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		from := w.clientIP(r)
		r = r.WithContext(context.WithValue(r.Context(), addrKey{}, from))
		problems(w.mux, next, seen, r)
	})
}

// recover turns a door's panic into one answer and one log line.
func (w *Web) recover(seen *answer, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	w.log.Error("panic while answering", "pattern", r.Pattern, "panic", v, "stack", string(debug.Stack()))
	if seen.status == 0 {
		Problem(seen, http.StatusInternalServerError, "internal", "Something broke on the server. Try again later.")
	}
}

// ClientIP is the address of the caller: the peer, or what the nearest trusted
// proxy says about it. It is the zero Addr on a Unix socket.
func ClientIP(r *http.Request) netip.Addr {
	if a, ok := r.Context().Value(addrKey{}).(netip.Addr); ok {
		return a
	}
	return peer(r)
}

// clientIP walks X-Forwarded-For from the right, past trusted proxies; what a
// stranger wrote further left is not believed.
func (w *Web) clientIP(r *http.Request) netip.Addr {
	at := peer(r)
	if len(w.proxies) == 0 || !w.trusted(at) {
		return at
	}
	header := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	if header == "" {
		return at
	}
	hops := strings.Split(header, ",")
	for i := len(hops) - 1; i >= 0; i-- {
		at = parseHop(strings.TrimSpace(hops[i]))
		if !w.trusted(at) {
			break
		}
	}
	return at
}

// parseHop reads one address of X-Forwarded-For, to which some proxies add a port. One
// that cannot be read is nobody in particular, and above all not a trusted proxy.
func parseHop(text string) netip.Addr {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap()
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().Unmap()
	}
	return netip.IPv4Unspecified()
}

func (w *Web) trusted(a netip.Addr) bool {
	for _, p := range w.proxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap()
}

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// answer remembers the status of a response.
type answer struct {
	http.ResponseWriter
	status int
}

// Unwrap lets http.ResponseController reach the real writer.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 || a.status < 200 && a.status != http.StatusSwitchingProtocols {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// webMetrics counts answers by status. The methods of nil do nothing.
type webMetrics struct{ requests *prometheus.CounterVec }

func newWebMetrics(to prometheus.Registerer) *webMetrics {
	if to == nil {
		return nil
	}
	m := &webMetrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "turnpike_http_requests_total", Help: "HTTP requests answered, by status.",
	}, []string{"status"})}
	to.MustRegister(m.requests)
	return m
}

func (m *webMetrics) count(status int) {
	if m == nil {
		return
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(strconv.Itoa(status)).Inc()
}
