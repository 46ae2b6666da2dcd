package authority

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"github.com/turnpike-rtc/turnpike/token"
)

const (
	maxUserToken = 8 << 10 // bytes
	maxUserLife  = 7 * 24 * time.Hour
)

// VerifyUser checks the JWT of an app's signed-in user (protocol/token.md, section
// 4). The claims name app and subject and allow nothing by themselves: what the user
// may do is in the app's rules.
func (a *Authority) VerifyUser(ctx context.Context, raw string) (token.Claims, error) {
	c := token.Claims{Kind: token.KindUser}
	if len(raw) > maxUserToken || strings.ContainsAny(raw, "\r\n") {
		return c, fmt.Errorf("cannot verify user token: %w", token.ErrMalformed)
	}
	v, err := a.current(ctx)
	if err != nil {
		return c, fmt.Errorf("cannot verify user token: %w", err)
	}
	u := user{authority: a, view: v}
	parser := jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation(),
		jwt.WithValidMethods([]string{"HS256", "RS256", "ES256"}))
	_, err = parser.ParseWithClaims(raw, &u.claims, func(t *jwt.Token) (any, error) { return u.secret(ctx, t) })
	c.App, c.KeyID = u.app.Name, u.keyID
	if token.ValidSubject(u.claims.Subject) { // whatever else it says stays out of the audit trail
		c.Subject = u.claims.Subject
	}
	if err == nil || u.failure != nil {
		err = u.failure
	} else {
		err = reasonOf(err)
	}
	if err == nil {
		err = u.check(a.now())
	}
	if err != nil {
		return c, fmt.Errorf("cannot verify user token: %w", err)
	}
	sum := sha256.Sum256([]byte(raw))
	c.ID, c.Resource = base64.RawURLEncoding.EncodeToString(sum[:])[:22], "app:"+u.app.Name
	c.Expires, c.Revision = u.claims.ExpiresAt.Time, v.revision
	if u.claims.IssuedAt != nil {
		// Without the claim it counts as older than every revocation of its subject.
		c.Issued = u.claims.IssuedAt.Time
	}
	if a.isRevoked(c) {
		return c, fmt.Errorf("cannot verify user token: %w", token.ErrRevoked)
	}
	return c, nil
}

// user is one user token on its way through verification.
type user struct {
	authority *Authority
	view      view
	claims    jwt.RegisteredClaims
	app       token.App
	keyID     string // of an HS256 token
	failure   error  // what was found out beside the signature, and comes before it
}

// secret finds the key that must have signed t. The algorithm decides where it is
// looked for, so that a public key is never taken for a secret.
func (u *user) secret(ctx context.Context, t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		u.failure = token.ErrMalformed // RFC 7515, 4.1.11: an extension we do not know
		return nil, u.failure
	}
	if t.Method == jwt.SigningMethodHS256 {
		return u.appSecret(ctx, t), nil
	}
	return u.publicKey(ctx, t)
}

// appSecret returns the secret key that kid or iss names. For one that must not or
// cannot be used it sets the failure and returns a secret all the same, so that the
// signature takes its time.
func (u *user) appSecret(ctx context.Context, t *jwt.Token) []byte {
	a := u.authority
	id, ok := t.Header["kid"].(string)
	if !ok {
		id = u.claims.Issuer
	}
	key, noKey := a.key(ctx, u.view, id)
	app, noApp := a.app(ctx, u.view, key.App)
	u.app = app
	switch err := first(noKey, noApp); {
	case err != nil:
		u.failure = err
		return []byte(a.nobody.App)
	case !key.Active(a.now()):
		u.failure = token.ErrDisabled
	}
	u.keyID = key.ID
	return []byte(key.Secret)
}

// publicKey returns the key of the app's identity provider that kid names.
func (u *user) publicKey(ctx context.Context, t *jwt.Token) (any, error) {
	a := u.authority
	if !plausibleIssuer(u.claims.Issuer) {
		u.failure = token.ErrUnknown
		return nil, u.failure
	}
	u.app, u.failure = a.issuers.get(ctx, u.view, u.claims.Issuer, a.keeper.AppByIssuer)
	if u.failure == nil && u.app.Identity.JWKSURL == "" {
		u.failure = token.ErrUnknown
	}
	if u.failure != nil {
		return nil, u.failure
	}
	key, err := a.jwks.key(ctx, u.app.Identity.JWKSURL, t)
	u.failure = err
	return key, err
}

// maxIssuer is the longest issuer an app can have, in bytes.
const maxIssuer = 512

// plausibleIssuer keeps what nobody vouched for out of the cache and the database.
func plausibleIssuer(s string) bool {
	return s != "" && len(s) <= maxIssuer && strings.IndexFunc(s, unicode.IsControl) < 0
}

// reasonOf says which refusal it is that the parser found.
func reasonOf(err error) error {
	if errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		return token.ErrSignature
	}
	return token.ErrMalformed // the parser's own words may quote the token
}

// check holds the claims of a genuine token to the rules.
func (u *user) check(now time.Time) error {
	c, policy := u.claims, u.app.Policy.Normal()
	switch {
	case !token.ValidSubject(c.Subject) || c.ExpiresAt == nil:
		return token.ErrMalformed
	case u.keyID == "" && u.app.Identity.Audience != "" && !slices.Contains(c.Audience, u.app.Identity.Audience):
		return token.ErrForeign
	case c.IssuedAt != nil && now.Before(c.IssuedAt.Add(-policy.Skew)),
		c.NotBefore != nil && now.Before(c.NotBefore.Add(-policy.Skew)):
		return token.ErrNotYetValid
	case !now.Before(c.ExpiresAt.Add(policy.Skew)):
		return token.ErrExpired
	case c.ExpiresAt.After(now.Add(maxUserLife + policy.Skew)),
		c.IssuedAt != nil && c.ExpiresAt.Sub(c.IssuedAt.Time) > maxUserLife:
		return token.ErrLifetime
	}
	return nil
}
