package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limits of a connect token, in bytes.
const (
	MaxConnect = 2048 // the whole text
	MinNonce   = 8
	MaxNonce   = 128
)

// Connect is what a connect token says: subject may connect to a device, once.
type Connect struct {
	Subject  string    // who connects, as the app names them; see ValidSubject
	DeviceID string    // the target
	KeyID    string    // access id of the key that signs
	Issued   time.Time // whole seconds; a fraction is cut off when signing
	Expires  time.Time // after Issued, at most MaxConnectTTL later
	Nonce    string    // MinNonce to MaxNonce printable ASCII characters, fresh for each token; see NewNonce

	// Scope is the spelling of the target in the token: "connect:<device_id>" or
	// "connect:device://<device_id>". Empty stands for the first. Both mean the same.
	Scope string
}

// Secrets are the two HMAC keys of a connect token.
type Secrets struct {
	App    string // secret_key of the access id
	Device string // device_secret_key of the target
}

// ID returns the name under which the token is spent, revoked and written to
// the audit trail: 22 characters that depend on KeyID and Nonce alone
// (protocol/token.md, section 2).
func (c Connect) ID() string {
	sum := sha256.Sum256([]byte(c.KeyID + "\n" + c.Nonce))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:22]
}

// SignConnect returns the text of a connect token, signed with both secrets.
// It refuses claims and secrets that no verifier would accept; the error wraps
// ErrMalformed or ErrLifetime and never contains a secret.
func SignConnect(c Connect, s Secrets) (string, error) {
	if !ValidSecret(s.Device) {
		return "", fmt.Errorf("cannot sign connect token: device secret key: %w", ErrMalformed)
	}
	return sign(c, s)
}

// SignConnectOneKey signs without the device secret. Only apps whose policy has
// OneKey accept such a token: whoever steals secretKey can open every device.
func SignConnectOneKey(c Connect, secretKey string) (string, error) {
	return sign(c, Secrets{App: secretKey})
}

func sign(c Connect, s Secrets) (string, error) {
	if c.Scope == "" {
		c.Scope = scopePrefix + c.DeviceID
	}
	if flaw := c.flaw(); flaw != "" {
		return "", fmt.Errorf("cannot sign connect token: %s: %w", flaw, ErrMalformed)
	}
	if c.Expires.Unix()-c.Issued.Unix() > int64(MaxConnectTTL/time.Second) {
		return "", fmt.Errorf("cannot sign connect token: %w", ErrLifetime)
	}
	if !ValidSecret(s.App) {
		return "", fmt.Errorf("cannot sign connect token: secret key: %w", ErrMalformed)
	}
	payload := base64.RawURLEncoding.EncodeToString(c.appendPayload(nil))
	sig := signature(payload, s)
	return connectVersion + "." + payload + "." + base64.RawURLEncoding.EncodeToString(sig[:]), nil
}

const (
	connectVersion = "v1"
	scopePrefix    = "connect:"
)

// flaw names the claim that breaks a rule of protocol/token.md, or returns "".
func (c Connect) flaw() string {
	target, ok := strings.CutPrefix(c.Scope, scopePrefix)
	switch {
	case !ValidSubject(c.Subject):
		return "sub is not 1 to 256 bytes of text"
	case !ok || strings.TrimPrefix(target, "device://") != c.DeviceID || !ValidDeviceID(c.DeviceID):
		return "scope does not name a device"
	case !ValidKeyID(c.KeyID):
		return "iss is no access id"
	case c.Issued.Unix() < 0 || c.Expires.Unix() > maxSeconds || c.Expires.Unix() <= c.Issued.Unix():
		return "exp is not later than iat"
	case len(c.Nonce) < MinNonce || len(c.Nonce) > MaxNonce || !printable(c.Nonce):
		return "nonce is not 8 to 128 printable characters"
	}
	return ""
}

// signature computes the outer signature over payload, the base64url text. The
// inner one goes in as text (protocol/token.md, section 2). Without a device
// secret it is the one-key scheme.
func signature(payload string, s Secrets) [sha256.Size]byte {
	if s.Device == "" {
		return mac(s.App, payload)
	}
	inner := mac(s.Device, payload)
	var room [MaxConnect]byte
	text := append(append(room[:0], payload...), '.')
	return mac(s.App, base64.RawURLEncoding.AppendEncode(text, inner[:]))
}

// ParsedConnect is a connect token whose form is right and whose signature has
// not been checked: nothing in it may be believed, it only tells which secrets
// to fetch for Verify.
type ParsedConnect struct {
	KeyID    string // access id whose secret key should have signed it
	DeviceID string // device whose secret should have signed it

	claims  Connect
	payload string // base64url text, which is what is signed
	sig     [sha256.Size]byte
}

// ParseConnect reads the form of a connect token, strictly: canonical base64url,
// exactly the six claims, each once. Errors wrap ErrMalformed or ErrVersion.
func ParseConnect(raw string) (ParsedConnect, error) {
	if len(raw) > MaxConnect {
		return ParsedConnect{}, malformed("longer than 2048 bytes")
	}
	version, rest, _ := strings.Cut(raw, ".")
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(sig, ".") {
		return ParsedConnect{}, malformed("not three parts")
	}
	if version != connectVersion {
		return ParsedConnect{}, fmt.Errorf("cannot read connect token: %w", ErrVersion)
	}
	p := ParsedConnect{payload: payload}
	var room [MaxConnect]byte
	text, ok := decode64(room[:], payload)
	if !ok {
		return ParsedConnect{}, malformed("payload is not canonical base64url")
	}
	claims, err := readPayload(string(text))
	if err != nil {
		return ParsedConnect{}, err
	}
	if b, ok := decode64(room[:], sig); !ok || copy(p.sig[:], b) != len(b) || len(b) != sha256.Size {
		return ParsedConnect{}, malformed("signature is not 32 bytes of canonical base64url")
	}
	p.claims, p.KeyID, p.DeviceID = claims, claims.KeyID, claims.DeviceID
	return p, nil
}

func malformed(flaw string) error {
	return fmt.Errorf("cannot read connect token: %s: %w", flaw, ErrMalformed)
}

// canonical refuses unused trailing bits that are not zero, so that a token has
// one spelling.
var canonical = base64.RawURLEncoding.Strict()

// decode64 decodes canonical base64url into room, which must be large enough.
func decode64(room []byte, text string) ([]byte, bool) {
	// The decoder skips line ends, which would be a second spelling.
	if strings.IndexByte(text, '\n') >= 0 || strings.IndexByte(text, '\r') >= 0 {
		return nil, false
	}
	n, err := canonical.Decode(room, []byte(text))
	return room[:n], err == nil
}

// ID is that of the Connect inside. Until Verify has succeeded it is only what
// the presenter claims.
func (p ParsedConnect) ID() string { return p.claims.ID() }

// Subject returns the claimed subject. Until Verify has succeeded it is only
// what the presenter says.
func (p ParsedConnect) Subject() string { return p.claims.Subject }

// Verify checks the signature with the secrets of KeyID and DeviceID, and then
// the times at now under the app's policy. Errors wrap ErrSignature,
// ErrNotYetValid, ErrExpired or ErrLifetime, checked in this order, so that the
// last three speak of a genuine token. Verify does not know whether the token
// was spent or revoked.
func (p ParsedConnect) Verify(s Secrets, now time.Time, policy Policy) (Connect, error) {
	policy = policy.Normal()
	if !p.signed(s, policy.OneKey) {
		return Connect{}, fmt.Errorf("cannot verify connect token: %w", ErrSignature)
	}
	if err := checkTimes(p.claims, now, policy); err != nil {
		return Connect{}, fmt.Errorf("cannot verify connect token: %w", err)
	}
	return p.claims, nil
}

// signed reports whether the signature is right. A missing secret never matches:
// an empty HMAC key is one that everybody knows.
func (p ParsedConnect) signed(s Secrets, oneKey bool) bool {
	if s.App == "" {
		return false
	}
	if s.Device != "" {
		want := signature(p.payload, s)
		if hmac.Equal(p.sig[:], want[:]) {
			return true
		}
	}
	if !oneKey {
		return false
	}
	want := signature(p.payload, Secrets{App: s.App})
	return hmac.Equal(p.sig[:], want[:])
}

func checkTimes(c Connect, now time.Time, policy Policy) error {
	switch {
	case now.Before(c.Issued.Add(-policy.Skew)):
		return ErrNotYetValid
	case !now.Before(c.Expires.Add(policy.Skew)):
		return ErrExpired
	case c.Expires.Sub(c.Issued) > policy.MaxTTL:
		return ErrLifetime
	}
	return nil
}

// appendPayload writes the claims in the order every known signer uses.
func (c Connect) appendPayload(b []byte) []byte {
	b = appendQuoted(append(b, `{"sub":`...), c.Subject)
	b = appendQuoted(append(b, `,"scope":`...), c.Scope)
	b = appendQuoted(append(b, `,"iss":`...), c.KeyID)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.Issued.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), c.Expires.Unix(), 10)
	b = appendQuoted(append(b, `,"nonce":`...), c.Nonce)
	return append(b, '}')
}

// appendQuoted writes a JSON string. Control characters, which JSON would have
// escaped as well, were refused by flaw.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
