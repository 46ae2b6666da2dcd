package authority_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/turnpike-rtc/turnpike/token"
)

// provider is an app's identity provider: it signs user tokens and publishes its keys.
type provider struct {
	*httptest.Server
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	p384   *ecdsa.PrivateKey
	asked  atomic.Int64
	broken atomic.Bool

	mu   sync.Mutex
	keys []map[string]string
}

func newProvider(t *testing.T, h *house) *provider {
	t.Helper()
	p := &provider{}
	var err error
	p.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	h.must(err)
	p.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err)
	p.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	h.must(err)
	p.keys = []map[string]string{
		rsaKey("r1", p.rsa), ecKey("e1", "P-256", p.ec), ecKey("e384", "P-384", p.p384),
		{"kty": "oct", "kid": "sym", "k": base64.RawURLEncoding.EncodeToString([]byte("published-secret"))},
		{"kty": "OKP", "kid": "ed", "crv": "Ed448", "x": "AAAA"},
	}
	p.Server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.Close)
	h.must(h.store.SetApp(t.Context(), token.App{Name: "demo", Identity: token.Identity{
		Issuer: "https://id.example", Audience: "turnpike", JWKSURL: p.URL,
	}}))
	return p
}

func (p *provider) serve(w http.ResponseWriter, _ *http.Request) {
	p.asked.Add(1)
	if p.broken.Load() {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"keys": p.keys})
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func rsaKey(kid string, k *rsa.PrivateKey) map[string]string {
	return map[string]string{"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig",
		"n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
}

func ecKey(kid, curve string, k *ecdsa.PrivateKey) map[string]string {
	point, err := k.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	half := (len(point) - 1) / 2
	return map[string]string{"kty": "EC", "kid": kid, "crv": curve, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
}

// jwtOf is a user token before it is signed.
type jwtOf struct {
	method jwt.SigningMethod
	header map[string]any
	claims jwt.MapClaims
	key    any
}

func (j jwtOf) sign(t *testing.T) string {
	t.Helper()
	tok := jwt.NewWithClaims(j.method, j.claims)
	for name, value := range j.header {
		tok.Header[name] = value
	}
	raw, err := tok.SignedString(j.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (h *house) userHS() jwtOf {
	return jwtOf{jwt.SigningMethodHS256, map[string]any{}, jwt.MapClaims{
		"iss": "ak-demo", "sub": "user-17", "iat": h.now().Unix(), "exp": h.now().Add(time.Hour).Unix(),
	}, []byte(appSecret)}
}

func (h *house) userRS(p *provider) jwtOf {
	return jwtOf{jwt.SigningMethodRS256, map[string]any{"kid": "r1"}, jwt.MapClaims{
		"iss": "https://id.example", "aud": "turnpike", "sub": "user-17",
		"iat": h.now().Unix(), "exp": h.now().Add(time.Hour).Unix(),
	}, p.rsa}
}

func TestUserTokens(t *testing.T) {
	h := newHouse(t)
	p := newProvider(t, h)
	hs, rs := h.userHS, func() jwtOf { return h.userRS(p) }
	at := func(d time.Duration) int64 { return h.now().Add(d).Unix() }
	pubPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: mustPKIX(t, p.rsa.Public())})
	for _, c := range []struct {
		name   string
		reason string
		from   func() jwtOf
		change func(j *jwtOf)
	}{
		{"HS256, key by iss", "", hs, func(*jwtOf) {}},
		{"HS256, key by kid", "", hs, func(j *jwtOf) { j.header["kid"] = "ak-demo"; j.claims["iss"] = "anything" }},
		{"RS256", "", rs, func(*jwtOf) {}},
		{"RS256, one of several audiences", "", rs, func(j *jwtOf) { j.claims["aud"] = []string{"x", "turnpike"} }},
		{"ES256", "", rs, func(j *jwtOf) { j.method, j.key, j.header["kid"] = jwt.SigningMethodES256, p.ec, "e1" }},
		{"no iat", "", hs, func(j *jwtOf) { delete(j.claims, "iat") }},
		{"expired within the skew", "", hs, func(j *jwtOf) { j.claims["exp"] = at(-29 * time.Second) }},

		{"HS256 with another secret", "signature", hs, func(j *jwtOf) { j.key = []byte("not-the-secret") }},
		{"HS256 with an unknown key", "unknown", hs, func(j *jwtOf) { j.claims["iss"] = "ak-nobody" }},
		{"HS256 without a name for its key", "unknown", hs, func(j *jwtOf) { delete(j.claims, "iss") }},
		{"HS256 under the public key", "unknown", rs, func(j *jwtOf) { j.method, j.key = jwt.SigningMethodHS256, pubPEM }},
		{"HS256 under the public key, iss an access id", "signature", hs, func(j *jwtOf) { j.key = pubPEM }},
		{"HS256 under a published symmetric key", "unknown", rs, func(j *jwtOf) {
			j.method, j.key, j.header["kid"] = jwt.SigningMethodHS256, []byte("published-secret"), "sym"
		}},
		{"HS512", "signature", hs, func(j *jwtOf) { j.method = jwt.SigningMethodHS512 }},
		{"PS256", "signature", rs, func(j *jwtOf) { j.method = jwt.SigningMethodPS256 }},
		{"none", "signature", hs, func(j *jwtOf) { j.method, j.key = jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType }},
		{"RS256 with another key", "signature", rs, func(j *jwtOf) { j.key = otherRSA(t) }},
		{"RS256 with the kid of an EC key", "signature", rs, func(j *jwtOf) { j.header["kid"] = "e1" }},
		{"ES256 with the kid of an RSA key", "unknown", rs, func(j *jwtOf) { j.method, j.key = jwt.SigningMethodES256, p.ec }},
		{"RS256 with an unknown kid", "unknown", rs, func(j *jwtOf) { j.header["kid"] = "r2" }},
		{"RS256 without kid", "unknown", rs, func(j *jwtOf) { delete(j.header, "kid") }},
		{"RS256 with a symmetric key's kid", "unknown", rs, func(j *jwtOf) { j.header["kid"] = "sym" }},
		{"RS256 of an unknown issuer", "unknown", rs, func(j *jwtOf) { j.claims["iss"] = "https://evil.example" }},
		{"RS256 without issuer", "unknown", rs, func(j *jwtOf) { delete(j.claims, "iss") }},
		{"wrong audience", "foreign", rs, func(j *jwtOf) { j.claims["aud"] = "another" }},
		{"no audience", "foreign", rs, func(j *jwtOf) { delete(j.claims, "aud") }},
		{"critical extension", "malformed", hs, func(j *jwtOf) { j.header["crit"] = []string{"b64"} }},
		{"expired", "expired", hs, func(j *jwtOf) { j.claims["exp"] = at(-30 * time.Second) }},
		{"expired and forged", "signature", hs, func(j *jwtOf) {
			j.claims["exp"], j.key = at(-time.Hour), []byte("not-the-secret")
		}},
		{"expired and for another audience", "foreign", rs, func(j *jwtOf) { j.claims["exp"], j.claims["aud"] = at(-time.Hour), "x" }},
		{"not yet valid", "not_yet_valid", hs, func(j *jwtOf) { j.claims["nbf"] = at(31 * time.Second) }},
		{"issued in the future", "not_yet_valid", hs, func(j *jwtOf) { j.claims["iat"] = at(31 * time.Second) }},
		{"longer than a week", "lifetime", hs, func(j *jwtOf) { j.claims["exp"] = at(8 * 24 * time.Hour) }},
		{"longer than a week in all", "lifetime", hs, func(j *jwtOf) { j.claims["iat"] = at(-8 * 24 * time.Hour) }},
		{"no exp", "malformed", hs, func(j *jwtOf) { delete(j.claims, "exp") }},
		{"absurd exp", "malformed", hs, func(j *jwtOf) { j.claims["exp"] = "soon" }},
		{"no sub", "malformed", hs, func(j *jwtOf) { delete(j.claims, "sub") }},
		{"long sub", "malformed", hs, func(j *jwtOf) { j.claims["sub"] = strings.Repeat("a", 257) }},
		{"huge", "malformed", hs, func(j *jwtOf) { j.claims["x"] = strings.Repeat("a", 8<<10) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := c.from()
			c.change(&j)
			got, err := h.VerifyUser(t.Context(), j.sign(t))
			refuses(t, err, c.reason)
			if err == nil && (got.App != "demo" || got.Subject != "user-17" || got.Kind != token.KindUser ||
				got.Once || len(got.Actions) != 0 || got.ID == "") {
				t.Errorf("claims %+v", got)
			}
		})
	}
	if n := p.asked.Load(); n > 3 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func mustPKIX(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func otherRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestUserTokensOfARevokedSubject(t *testing.T) {
	h := newHouse(t)
	old := h.userHS().sign(t)
	anon := h.userHS()
	delete(anon.claims, "iat")
	h.revoke(token.ChangeSubject, "user-17")
	_, err := h.VerifyUser(t.Context(), old)
	refuses(t, err, "revoked")
	_, err = h.VerifyUser(t.Context(), anon.sign(t))
	refuses(t, err, "revoked")
	h.pass(time.Second)
	_, err = h.VerifyUser(t.Context(), h.userHS().sign(t))
	refuses(t, err, "")
}

func TestNewKeysOfAProviderAreFoundAndOldOnesForgotten(t *testing.T) {
	h := newHouse(t)
	p := newProvider(t, h)
	old := h.userRS(p)
	_, err := h.VerifyUser(t.Context(), old.sign(t))
	refuses(t, err, "")
	fresh := h.userRS(p)
	fresh.key, fresh.header["kid"] = otherRSA(t), "r2"
	p.mu.Lock()
	p.keys = []map[string]string{rsaKey("r2", fresh.key.(*rsa.PrivateKey))}
	p.mu.Unlock()

	_, err = h.VerifyUser(t.Context(), fresh.sign(t))
	refuses(t, err, "unknown") // asked a moment ago: nobody can make us ask all the time
	h.pass(31 * time.Second)
	_, err = h.VerifyUser(t.Context(), fresh.sign(t))
	refuses(t, err, "")
	_, err = h.VerifyUser(t.Context(), old.sign(t))
	refuses(t, err, "unknown")
	if n := p.asked.Load(); n != 2 {
		t.Errorf("the provider was asked %d times", n)
	}
}

func TestProviderThatDoesNotAnswerIsNoRefusal(t *testing.T) {
	h := newHouse(t)
	p := newProvider(t, h)
	p.broken.Store(true)
	if _, err := h.VerifyUser(t.Context(), h.userRS(p).sign(t)); err == nil || token.Reason(err) != "" {
		t.Errorf("got %v, want an error that is no refusal", err)
	}
	h.pass(31 * time.Second)
	p.broken.Store(false)
	_, err := h.VerifyUser(t.Context(), h.userRS(p).sign(t))
	refuses(t, err, "")
	p.broken.Store(true)
	h.pass(time.Hour)
	_, err = h.VerifyUser(t.Context(), h.userRS(p).sign(t))
	refuses(t, err, "") // what it said an hour ago still holds
	h.pass(24 * time.Hour)
	if _, err := h.VerifyUser(t.Context(), h.userRS(p).sign(t)); err == nil || token.Reason(err) != "" {
		t.Errorf("got %v from keys of a day ago", err)
	}
}

func TestProviderCannotSendUsElsewhere(t *testing.T) {
	h := newHouse(t)
	p := newProvider(t, h)
	var elsewhere atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(target.Close)
	p.Config.Handler = http.RedirectHandler(target.URL, http.StatusFound)
	if _, err := h.VerifyUser(t.Context(), h.userRS(p).sign(t)); err == nil || elsewhere.Load() != 0 {
		t.Errorf("followed a redirect: %v, %d requests", err, elsewhere.Load())
	}
}

func FuzzVerifyUser(f *testing.F) {
	h := newHouse(f)
	f.Add("")
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")
	f.Add("eyJhbGciOiJIUzI1NiIsImtpZCI6ImFrLWRlbW8ifQ.eyJzdWIiOiJhIiwiZXhwIjoxZTMwOH0.AAAA")
	f.Fuzz(func(t *testing.T, raw string) {
		if c, err := h.VerifyUser(t.Context(), raw); err == nil {
			t.Fatalf("accepted %q: %+v", raw, c)
		}
	})
}
