// Package token defines the credentials Turnpike accepts and issues. It is pure:
// every function takes bytes, keys and the time, and returns values. It opens
// nothing, remembers nothing and needs no server.
//
// A back end that lets its users connect to a device signs a connect token:
//
//	raw, err := token.SignConnect(token.Connect{
//		Subject:  "user-17",
//		DeviceID: "AABBCCDDEEFF",
//		KeyID:    accessID,
//		Issued:   time.Now(),
//		Expires:  time.Now().Add(5 * time.Minute),
//		Nonce:    token.NewNonce(),
//	}, token.Secrets{App: secretKey, Device: deviceSecretKey})
//
// The client presents raw once; Turnpike verifies it with [ParseConnect] and
// [ParsedConnect.Verify], spends it, and lets the client in. The format is
// written down in protocol/token.md, with test vectors in protocol/vectors.
package token

import (
	"errors"
	"time"
)

// Reasons a credential is refused. Outside, they all look the same; the audit
// log has the true one. Compare with errors.Is.
var (
	ErrMalformed   = errors.New("credential is malformed")
	ErrVersion     = errors.New("token version is not known")
	ErrUnknown     = errors.New("key, device, app or session is not known")
	ErrDisabled    = errors.New("key, device or app is disabled")
	ErrSignature   = errors.New("signature does not match")
	ErrNotYetValid = errors.New("token was issued in the future")
	ErrExpired     = errors.New("token has expired")
	ErrLifetime    = errors.New("token lives longer than the app allows")
	ErrForeign     = errors.New("token and device belong to different apps")
	ErrRevoked     = errors.New("token or its subject was revoked")
	ErrSpent       = errors.New("token was already used")
)

// reasons gives each refusal its word in protocol/token.md, section 2.
var reasons = []struct {
	err  error
	word string
}{
	{ErrMalformed, "malformed"},
	{ErrVersion, "version"},
	{ErrUnknown, "unknown"},
	{ErrDisabled, "disabled"},
	{ErrSignature, "signature"},
	{ErrNotYetValid, "not_yet_valid"},
	{ErrExpired, "expired"},
	{ErrLifetime, "lifetime"},
	{ErrForeign, "foreign"},
	{ErrRevoked, "revoked"},
	{ErrSpent, "spent"},
}

// Reason returns the word of protocol/token.md, section 2, for why err refuses a
// credential, such as "expired"; or "" when err is no refusal. The word is for
// the audit trail and for developers; it must not reach whoever was refused.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return ""
}

// Claims is what any credential says once it has been checked, whatever its
// format was. Only a verifier makes one.
type Claims struct {
	ID       string    // stable id of the token, for spending and revoking; never the token itself
	Kind     Kind      // which format it came in
	App      string    // the tenant it belongs to
	KeyID    string    // access id of the signing key; empty when no key was involved
	Subject  string    // who asks, as named by the app
	Resource string    // "device:ID", "stream:APP/ID", … what it is good for
	Actions  []string  // what the holder may do, as in package access
	Issued   time.Time // when it was signed
	Expires  time.Time // last moment it opens a door, before the skew allowance
	Once     bool      // it is spent by its first successful admission
	Ends     bool      // the session ends when the token expires (the app's rule)
	Session  string    // for a resume ticket: the session it continues
	Until    time.Time // for a resume ticket: when the session it continues would have ended; zero: no end of its own
	Revision int64     // the store revision its keys and rules were read at
}

// Kind names a credential format. Its text goes into audit events and metric labels.
type Kind string

// The credential formats.
const (
	KindConnect Kind = "connect_token"
	KindTicket  Kind = "resume_ticket"
	KindUser    Kind = "user_token"
	KindKey     Kind = "api_key"
	KindLicense Kind = "license"
)
