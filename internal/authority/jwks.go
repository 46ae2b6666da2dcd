package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"github.com/turnpike-rtc/turnpike/token"
)

const (
	jwksFresh   = 15 * time.Minute // how long a key set is used without asking again
	jwksKept    = 24 * time.Hour   // how long it is used while its provider does not answer
	jwksPause   = 30 * time.Second // between two requests to one provider
	jwksTimeout = 5 * time.Second  // for one request
	maxJWKS     = 256 << 10        // bytes
	maxKeySets  = 256              // providers remembered; a full list forgets any one of them
)

// keySets are the public keys of identity providers, by URL. They are fetched by
// the caller who needs them; others who need them then wait with him.
type keySets struct {
	now     func() time.Time
	log     *slog.Logger
	client  *http.Client
	fetches singleflight.Group

	mu   sync.Mutex
	sets map[string]keySet
}

type keySet struct {
	keys    keyfunc.Keyfunc // nil: never read
	fetched time.Time       // when they were read
	tried   time.Time       // when they were last asked for
}

func newKeySets(now func() time.Time, log *slog.Logger) *keySets {
	return &keySets{
		now: now,
		log: log,
		client: &http.Client{
			Timeout: jwksTimeout,
			// The operator named one address. Where it may point is not for others to say.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		sets: make(map[string]keySet),
	}
}

// key returns the public key of t, by its kid. A kid that is not known may be new,
// so the provider is asked again, but not more often than every jwksPause.
func (s *keySets) key(ctx context.Context, url string, t *jwt.Token) (any, error) {
	if kid, _ := t.Header["kid"].(string); kid == "" {
		return nil, token.ErrUnknown
	}
	set := s.get(url)
	if set.keys != nil && s.now().Before(set.fetched.Add(jwksFresh)) {
		if key, err := fitting(set.keys, t); err == nil {
			return key, nil
		}
	}
	fetched, err, _ := s.fetches.Do(url, func() (any, error) {
		return s.refresh(context.WithoutCancel(ctx), url), nil
	})
	if err != nil {
		return nil, err
	}
	set = fetched.(keySet)
	if set.keys == nil || !s.now().Before(set.fetched.Add(jwksKept)) {
		return nil, errors.New("cannot reach the app's identity provider")
	}
	return fitting(set.keys, t)
}

// fitting returns the key that t names if it is one for its algorithm.
func fitting(keys keyfunc.Keyfunc, t *jwt.Token) (any, error) {
	key, err := keys.Keyfunc(t)
	if err != nil {
		return nil, token.ErrUnknown
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && k.Curve != elliptic.P256() {
		return nil, token.ErrSignature // RFC 7518, 3.4: ES256 is P-256
	}
	return key, nil
}

func (s *keySets) get(url string) keySet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sets[url]
}

// refresh asks the provider, unless it was asked a moment ago, and returns what is
// known then.
func (s *keySets) refresh(ctx context.Context, url string) keySet {
	set := s.get(url)
	if !set.tried.IsZero() && s.now().Before(set.tried.Add(jwksPause)) {
		return set
	}
	set.tried = s.now()
	keys, err := s.fetch(ctx, url)
	if err != nil {
		s.log.Warn("cannot read the keys of an identity provider", slog.String("url", url), slog.Any("error", err))
	} else {
		set.keys, set.fetched = keys, set.tried
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sets[url]; !ok && len(s.sets) >= maxKeySets {
		for any := range s.sets {
			delete(s.sets, any)
			break
		}
	}
	s.sets[url] = set
	return set
}

func (s *keySets) fetch(ctx context.Context, url string) (keyfunc.Keyfunc, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("provider answers %d", answer.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxJWKS+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxJWKS {
		return nil, fmt.Errorf("provider answers more than %d bytes", maxJWKS)
	}
	return parseJWKS(text)
}

// parseJWKS keeps the keys that user tokens can be signed with, and of these the
// members that matter. Symmetric keys, which have no place in a public document,
// and links to certificates are left out.
func parseJWKS(text []byte) (keyfunc.Keyfunc, error) {
	type key struct {
		Kty string `json:"kty"`
		Kid string `json:"kid,omitempty"`
		Use string `json:"use,omitempty"`
		Alg string `json:"alg,omitempty"`
		N   string `json:"n,omitempty"`
		E   string `json:"e,omitempty"`
		Crv string `json:"crv,omitempty"`
		X   string `json:"x,omitempty"`
		Y   string `json:"y,omitempty"`
	}
	var in, out struct {
		Keys []key `json:"keys"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("cannot read JWKS: %w", err)
	}
	for _, k := range in.Keys {
		signs := k.Use == "" || k.Use == "sig"
		if k.Kid != "" && signs && (k.Kty == "RSA" || k.Kty == "EC" && k.Crv == "P-256") {
			out.Keys = append(out.Keys, k)
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	keys, err := keyfunc.NewJWKSetJSON(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read JWKS: %w", err)
	}
	return keys, nil
}
