package authority_test

import (
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/authority"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestGenuineTokenBecomesClaims(t *testing.T) {
	h := newHouse(t)
	c := h.connect()
	got, err := h.Verify(t.Context(), h.sign(c))
	h.must(err)
	if got.ID != c.ID() || got.Kind != token.KindConnect || got.App != "demo" || got.KeyID != "ak-demo" ||
		got.Subject != "user-17" || got.Resource != access.DeviceResource("dev-demo") || !got.Once || got.Ends ||
		len(got.Actions) != 1 || got.Actions[0] != string(access.Connect) ||
		!got.Issued.Equal(c.Issued) || !got.Expires.Equal(c.Expires) {
		t.Errorf("claims %+v", got)
	}
	if n, err := h.store.Revision(t.Context()); err != nil || got.Revision != n {
		t.Errorf("revision %d, store has %d, %v", got.Revision, n, err)
	}
}

func TestRefusesConnectTokens(t *testing.T) {
	for _, c := range []struct {
		name   string
		reason string
		change func(h *house, c *token.Connect, s *token.Secrets)
	}{
		{"nothing wrong", "", func(*house, *token.Connect, *token.Secrets) {}},
		{"forged app signature", "signature", func(_ *house, _ *token.Connect, s *token.Secrets) { s.App = "not-the-secret" }},
		{"forged device signature", "signature", func(_ *house, _ *token.Connect, s *token.Secrets) { s.Device = "not-the-secret" }},
		{"unknown key", "unknown", func(_ *house, c *token.Connect, _ *token.Secrets) { c.KeyID = "ak-nobody" }},
		{"unknown device", "unknown", func(_ *house, c *token.Connect, _ *token.Secrets) { c.DeviceID = "dev-nobody" }},
		{"device of another app", "foreign", func(_ *house, c *token.Connect, _ *token.Secrets) { c.DeviceID = "dev-other" }},
		{"expired", "expired", func(h *house, _ *token.Connect, _ *token.Secrets) { h.pass(5*time.Minute + token.DefaultSkew) }},
		{"a moment before it expires", "", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.pass(5*time.Minute + token.DefaultSkew - 1)
		}},
		{"from the future", "not_yet_valid", func(h *house, _ *token.Connect, _ *token.Secrets) { h.pass(-token.DefaultSkew - 1) }},
		{"longer than the app allows", "lifetime", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.SetApp(h.t.Context(), token.App{Name: "demo", Policy: token.Policy{MaxTTL: time.Minute}}))
		}},
		{"disabled device", "disabled", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.DisableDevice(h.t.Context(), "dev-demo", true, h.now()))
		}},
		{"removed device", "unknown", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.RemoveDevice(h.t.Context(), "dev-demo", h.now()))
		}},
		{"revoked key", "disabled", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.RevokeKey(h.t.Context(), "ak-demo", h.now()))
		}},
		{"retired key", "disabled", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.RetireKey(h.t.Context(), "ak-demo", h.now()))
		}},
		{"key in its overlap", "", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.must(h.store.RetireKey(h.t.Context(), "ak-demo", h.now().Add(time.Hour)))
		}},
		{"revoked token", "revoked", func(h *house, c *token.Connect, _ *token.Secrets) {
			h.revoke(token.ChangeToken, c.ID())
		}},
		{"revoked subject", "revoked", func(h *house, _ *token.Connect, _ *token.Secrets) {
			h.revoke(token.ChangeSubject, "user-17")
		}},
		{"subject revoked before the token was issued", "", func(h *house, c *token.Connect, _ *token.Secrets) {
			h.revoke(token.ChangeSubject, "user-17")
			h.pass(time.Second)
			c.Issued = h.now()
		}},
		{"subject of that name in another app", "", func(h *house, _ *token.Connect, _ *token.Secrets) {
			_, err := h.store.Revoke(h.t.Context(),
				token.Change{Kind: token.ChangeSubject, App: "other", ID: "user-17", At: h.now()}, h.now().Add(time.Hour))
			h.must(err)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Once before the authority has seen anything, and once after it has looked
			// everything up and a change has to reach its caches.
			for _, warm := range []bool{false, true} {
				h := newHouse(t)
				if warm {
					_, err := h.Verify(t.Context(), h.sign(h.connect()))
					h.must(err)
					h.pass(3 * time.Second)
				}
				claims, secrets := h.connect(), token.Secrets{App: appSecret, Device: deviceSecret}
				c.change(h, &claims, &secrets)
				raw, err := token.SignConnect(claims, secrets)
				h.must(err)
				got, err := h.Verify(t.Context(), raw)
				refuses(t, err, c.reason)
				if got.Kind != token.KindConnect || got.KeyID != claims.KeyID || got.ID != claims.ID() {
					t.Errorf("warm %v: the audit trail would not know which token it was: %+v", warm, got)
				}
				if err != nil && (strings.Contains(err.Error(), raw) || strings.Contains(err.Error(), appSecret)) {
					t.Errorf("error tells the token or a secret: %v", err)
				}
			}
		})
	}
}

func (h *house) revoke(kind token.ChangeKind, id string) {
	h.t.Helper()
	_, err := h.store.Revoke(h.t.Context(), token.Change{Kind: kind, App: "demo", ID: id, At: h.now()}, h.now().Add(time.Hour))
	h.must(err)
}

func TestOneKeyIsAnAppsRule(t *testing.T) {
	h := newHouse(t)
	raw, err := token.SignConnectOneKey(h.connect(), appSecret)
	h.must(err)
	_, err = h.Verify(t.Context(), raw)
	refuses(t, err, "signature")
	h.must(h.store.SetApp(t.Context(), token.App{Name: "demo", Policy: token.Policy{OneKey: true, EndExpiry: true}}))
	h.pass(3 * time.Second)
	c, err := h.Verify(t.Context(), raw)
	refuses(t, err, "")
	if !c.Ends {
		t.Error("the app's rule to end sessions at expiry is lost")
	}
}

func TestUnknownTakesTheWorkOfForged(t *testing.T) {
	h := newHouse(t)
	forged, err := token.SignConnect(h.connect(), token.Secrets{App: "not-the-secret", Device: deviceSecret})
	h.must(err)
	allocs := func(change func(*token.Connect)) float64 {
		c := h.connect()
		change(&c)
		raw := h.sign(c)
		return testing.AllocsPerRun(100, func() {
			if _, err := h.Verify(t.Context(), raw); err == nil {
				t.Fatal("accepted")
			}
		})
	}
	want := testing.AllocsPerRun(100, func() {
		if _, err := h.Verify(t.Context(), forged); err == nil {
			t.Fatal("accepted")
		}
	})
	for name, got := range map[string]float64{
		"unknown key":    allocs(func(c *token.Connect) { c.KeyID = "ak-nobody" }),
		"unknown device": allocs(func(c *token.Connect) { c.DeviceID = "dev-nobody" }),
	} {
		if math.Abs(got-want) > 3 { // an HMAC makes seven
			t.Errorf("%s makes %v allocations, a forged signature %v: the work differs", name, got, want)
		}
	}
}

func TestUnreadableStoreRefusesNobody(t *testing.T) {
	h := newHouse(t)
	raw := h.sign(h.connect())
	_, err := h.Verify(t.Context(), raw)
	h.must(err)
	h.must(h.store.Close())
	h.pass(3 * time.Second)
	if _, err := h.Verify(t.Context(), raw); err == nil || token.Reason(err) != "" {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
}

func TestResumeTickets(t *testing.T) {
	h := newHouse(t)
	admit := func(session string) string {
		raw := token.NewTicket()
		hash, err := token.ParseTicket(raw)
		h.must(err)
		_, err = h.store.Admit(t.Context(), access.Admission{
			Session: session, Node: "n1", Door: "device", At: h.now(), Ticket: hash, TicketEnd: h.now().Add(2 * time.Minute),
			Grant: access.Grant{App: "demo", Subject: "user-17", Resource: "device:dev-demo",
				Actions: []access.Action{access.Connect}, TokenID: "token-1", KeyID: "ak-demo"},
		})
		h.must(err)
		return raw
	}
	raw := admit("session-1")
	c, err := h.Verify(t.Context(), raw)
	h.must(err)
	if c.Kind != token.KindTicket || c.Session != "session-1" || c.Once || c.ID != "token-1" || c.Resource != "device:dev-demo" {
		t.Errorf("claims %+v", c)
	}
	_, err = h.Verify(t.Context(), token.NewTicket())
	refuses(t, err, "unknown")
	_, err = h.Verify(t.Context(), raw+"A")
	refuses(t, err, "malformed")
	h.pass(2 * time.Minute)
	_, err = h.Verify(t.Context(), raw)
	refuses(t, err, "expired")

	raw = admit("session-2")
	h.must(h.store.RetireKey(t.Context(), "ak-demo", h.now()))
	h.pass(3 * time.Second)
	_, err = h.Verify(t.Context(), raw)
	refuses(t, err, "") // a retired key signs no more; what it opened goes on
	h.revoke(token.ChangeSubject, "user-17")
	h.pass(3 * time.Second)
	_, err = h.Verify(t.Context(), raw)
	refuses(t, err, "revoked")
}

func TestRecheck(t *testing.T) {
	for name, c := range map[string]struct {
		reason string
		change func(h *house)
	}{
		"nothing happened":  {"", func(*house) {}},
		"token expired":     {"", func(h *house) { h.pass(time.Hour) }},
		"key retired":       {"", func(h *house) { h.must(h.store.RetireKey(h.t.Context(), "ak-demo", h.now())) }},
		"key revoked":       {"disabled", func(h *house) { h.must(h.store.RevokeKey(h.t.Context(), "ak-demo", h.now())) }},
		"device disabled":   {"disabled", func(h *house) { h.must(h.store.DisableDevice(h.t.Context(), "dev-demo", true, h.now())) }},
		"device removed":    {"unknown", func(h *house) { h.must(h.store.RemoveDevice(h.t.Context(), "dev-demo", h.now())) }},
		"device moved away": {"foreign", func(h *house) { moveDevice(h) }},
		"subject revoked":   {"revoked", func(h *house) { h.revoke(token.ChangeSubject, "user-17") }},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			claims, err := h.Verify(t.Context(), h.sign(h.connect()))
			h.must(err)
			c.change(h)
			h.pass(3 * time.Second)
			_, err = h.Recheck(t.Context(), claims)
			refuses(t, err, c.reason)
		})
	}
}

func moveDevice(h *house) {
	h.must(h.store.RemoveDevice(h.t.Context(), "dev-demo", h.now()))
	h.must(h.store.AddDevice(h.t.Context(), token.Device{ID: "dev-demo", App: "other", Secret: deviceSecret, Created: h.now()}))
}

func TestVerifyKey(t *testing.T) {
	for _, c := range []struct {
		name, id, secret string
		change           func(h *house)
		reason           string
	}{
		{"right", "ak-demo", appSecret, nil, ""},
		{"wrong secret", "ak-demo", appSecret + "x", nil, "signature"},
		{"no secret", "ak-demo", "", nil, "signature"},
		{"unknown key", "ak-nobody", appSecret, nil, "unknown"},
		{"not even a key id", "'; DROP TABLE app_key", appSecret, nil, "unknown"},
		{"revoked", "ak-demo", appSecret, func(h *house) { h.must(h.store.RevokeKey(h.t.Context(), "ak-demo", h.now())) }, "disabled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t)
			if c.change != nil {
				c.change(h)
			}
			claims, err := h.VerifyKey(t.Context(), c.id, c.secret)
			refuses(t, err, c.reason)
			if err != nil {
				return
			}
			r := access.Request{Action: access.Manage, Resource: access.AppResource("demo")}
			if _, err := access.Decide(claims, r); err != nil {
				t.Errorf("%v: the key of an app does not manage it", err)
			}
		})
	}
}

func TestProveDevice(t *testing.T) {
	h := newHouse(t)
	prove := func(id, proof string) (token.Device, string, error) {
		return h.ProveDevice(t.Context(), id, "mac", "server-nonce", "device-nonce", proof)
	}
	right := token.DeviceProof(deviceSecret, "server-nonce", "device-nonce", "dev-demo", "mac")
	d, proof, err := prove("dev-demo", right)
	h.must(err)
	if d.ID != "dev-demo" || d.App != "demo" || proof != token.ServerProof(deviceSecret, "device-nonce", "server-nonce") {
		t.Errorf("device %+v, proof %q", d, proof)
	}
	for name, c := range map[string]struct{ id, proof, reason string }{
		"wrong proof":       {"dev-demo", right[:42] + "A", "signature"},
		"no proof":          {"dev-demo", "", "signature"},
		"another client id": {"dev-demo", token.DeviceProof(deviceSecret, "server-nonce", "device-nonce", "dev-demo", "cam"), "signature"},
		"unknown device":    {"dev-nobody", right, "unknown"},
		"not a device id":   {"../x", right, "unknown"},
	} {
		if d, proof, err := prove(c.id, c.proof); token.Reason(err) != c.reason || proof != "" || d != (token.Device{}) {
			t.Errorf("%s: %+v, %q, %v", name, d, proof, err)
		}
	}
	h.must(h.store.DisableDevice(t.Context(), "dev-demo", true, h.now()))
	_, _, err = prove("dev-demo", right)
	refuses(t, err, "disabled") // at once: no cache in between
}

func TestIssueConnect(t *testing.T) {
	h := newHouse(t)
	issue := func(app, device string, ttl time.Duration) (token.Connect, error) {
		raw, c, err := h.IssueConnect(t.Context(), app, "user-17", device, ttl)
		if err != nil {
			return c, err
		}
		claims, err := h.Verify(t.Context(), raw)
		h.must(err)
		if claims.Subject != "user-17" || claims.ID != c.ID() {
			t.Errorf("issued %+v, verified %+v", c, claims)
		}
		return c, nil
	}
	c, err := issue("demo", "dev-demo", 0)
	h.must(err)
	if got := c.Expires.Sub(c.Issued); got != authority.DefaultTTL {
		t.Errorf("lives %v", got)
	}
	if c, err = issue("demo", "dev-demo", 1000*time.Hour); err != nil || c.Expires.Sub(c.Issued) != token.MaxConnectTTL {
		t.Errorf("lives %v, %v", c.Expires.Sub(c.Issued), err)
	}
	_, err = issue("demo", "dev-other", 0)
	refuses(t, err, "unknown")
	_, err = issue("nobody", "dev-demo", 0)
	refuses(t, err, "unknown")
	if _, _, err = h.IssueConnect(t.Context(), "demo", "a\nb", "dev-demo", 0); token.Reason(err) != "malformed" {
		t.Errorf("issued to a subject with a line end: %v", err)
	}

	h.must(h.store.AddKey(t.Context(), token.Key{ID: "ak-new", App: "demo", Secret: appSecret, Created: h.now().Add(1)}))
	h.must(h.store.RetireKey(t.Context(), "ak-new", h.now().Add(time.Hour)))
	if c, err = issue("demo", "dev-demo", 0); err != nil || c.KeyID != "ak-demo" {
		t.Errorf("signs with %q, %v, while another key does not retire", c.KeyID, err)
	}
	h.must(h.store.RevokeKey(t.Context(), "ak-demo", h.now()))
	h.pass(3 * time.Second)
	if c, err = issue("demo", "dev-demo", 0); err != nil || c.KeyID != "ak-new" {
		t.Errorf("signs with %q, %v", c.KeyID, err)
	}
	h.must(h.store.RevokeKey(t.Context(), "ak-new", h.now()))
	_, err = issue("demo", "dev-demo", 0)
	refuses(t, err, "disabled")
}

func BenchmarkVerify(b *testing.B) {
	h := newHouse(b)
	raw := h.sign(h.connect())
	a := authority.New(h.store, h.now, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Verify(b.Context(), raw); err != nil {
			b.Fatal(err)
		}
	}
}
