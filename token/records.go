package token

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of the names in credentials, in bytes.
const (
	MaxAppName  = 63
	MaxDeviceID = 32
	MaxKeyID    = 64
	MaxSubject  = 256
	MinSecret   = 8
	MaxSecret   = 128
)

// App is a tenant: it owns keys, devices and rules.
type App struct {
	Name     string
	Policy   Policy
	Identity Identity
	Created  time.Time
}

// Policy is what an app demands of its tokens. The zero value stands for the defaults.
type Policy struct {
	Skew      time.Duration // clock skew forgiven on both sides; 0 means DefaultSkew, at most MaxSkew
	MaxTTL    time.Duration // longest life of a connect token; 0 means MaxConnectTTL, which is also the cap
	OneKey    bool          // also accept connect tokens signed without the device secret
	EndExpiry bool          // end the session when its token expires, instead of only guarding the door
}

// Default and largest values of a Policy.
const (
	DefaultSkew   = 30 * time.Second
	MaxSkew       = 5 * time.Minute
	MaxConnectTTL = 24 * time.Hour
)

// Normal returns p with defaults filled in and caps applied.
func (p Policy) Normal() Policy {
	if p.Skew <= 0 {
		p.Skew = DefaultSkew
	}
	if p.MaxTTL <= 0 {
		p.MaxTTL = MaxConnectTTL
	}
	p.Skew, p.MaxTTL = min(p.Skew, MaxSkew), min(p.MaxTTL, MaxConnectTTL)
	return p
}

// Identity says how an app's own user tokens (JWTs of its identity provider) are
// checked. Tokens signed with one of the app's keys (HS256) are always accepted.
type Identity struct {
	Issuer   string // required "iss" of RS256 and ES256 tokens
	Audience string // required "aud"; empty accepts any
	JWKSURL  string // where the provider publishes its public keys; empty accepts HS256 only
}

// Key is an app's credential pair. Other systems call the two parts API key and secret.
type Key struct {
	ID      string    // access id, public
	App     string    // owner
	Secret  string    // secret key; its UTF-8 bytes are the HMAC key
	Created time.Time //
	Retires time.Time // end of the overlap after a rotation; zero: never
	Revoked bool      //
}

// Active reports whether the key signs and verifies at now.
func (k Key) Active(now time.Time) bool {
	return !k.Revoked && (k.Retires.IsZero() || now.Before(k.Retires))
}

// Device is a registered device.
type Device struct {
	ID       string    // at most MaxDeviceID letters, digits, '-' and '_'
	App      string    // owner
	Secret   string    // device_secret_key
	ClientID string    // physical identity bound by the first start; empty: not bound yet
	Disabled bool      //
	Created  time.Time //
}

// License is what a device starts with, written "<device_id>,<device_secret_key>".
type License struct {
	DeviceID string
	Secret   string
}

// ParseLicense reads a license. The error never contains the secret.
func ParseLicense(s string) (License, error) {
	id, secret, ok := strings.Cut(strings.TrimSpace(s), ",")
	if !ok || !ValidDeviceID(id) || !ValidSecret(secret) {
		return License{}, fmt.Errorf("cannot read license: want <device_id>,<device_secret_key>: %w", ErrMalformed)
	}
	return License{id, secret}, nil
}

// String writes the license as ParseLicense reads it. It contains the secret.
func (l License) String() string { return l.DeviceID + "," + l.Secret }

// ParseRemoteID reads the target of a connection, bare or as device://<id>, and
// returns the device id. Surrounding space is ignored; any other scheme is an error.
func ParseRemoteID(s string) (string, error) {
	id := strings.TrimPrefix(strings.TrimSpace(s), "device://")
	if !ValidDeviceID(id) {
		return "", fmt.Errorf("cannot read remote id: want a device id or device://<id>: %w", ErrMalformed)
	}
	return id, nil
}

// ValidDeviceID reports whether s may name a device: 1 to MaxDeviceID letters,
// digits, '-' and '_', beginning with a letter or digit.
func ValidDeviceID(s string) bool { return validName(s, MaxDeviceID) }

// ValidKeyID reports whether s may be an access id: 1 to MaxKeyID letters,
// digits, '-' and '_', beginning with a letter or digit.
func ValidKeyID(s string) bool { return validName(s, MaxKeyID) }

// ValidSecret reports whether s may be a secret key or a device secret key:
// MinSecret to MaxSecret printable ASCII characters without spaces and commas.
func ValidSecret(s string) bool {
	return len(s) >= MinSecret && len(s) <= MaxSecret && printable(s) && !strings.Contains(s, ",")
}

// ValidSubject reports whether s may name a subject: 1 to MaxSubject bytes of
// UTF-8 without control characters.
func ValidSubject(s string) bool {
	return s != "" && len(s) <= MaxSubject && utf8.ValidString(s) && strings.IndexFunc(s, unicode.IsControl) < 0
}

func validName(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '-' || s[0] == '_' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// printable reports whether s is printable ASCII without spaces.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Change is one line of the log of changes that concern people inside: what was
// revoked, disabled, removed or ended. Every node follows the log.
type Change struct {
	Revision int64
	Kind     ChangeKind
	App      string
	ID       string
	At       time.Time
}

// ChangeKind says what the ID of a Change names.
type ChangeKind string

// The kinds of change.
const (
	ChangeToken   ChangeKind = "token"   // the token with this id is void
	ChangeSubject ChangeKind = "subject" // all tokens of this subject issued until At are void
	ChangeKey     ChangeKind = "key"     // the key is revoked
	ChangeDevice  ChangeKind = "device"  // the device is disabled, removed or has a new secret
	ChangeSession ChangeKind = "session" // the session ends
	ChangeRecord  ChangeKind = "record"  // some record changed; nobody has to leave
)
