package token

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// TicketPrefix begins every resume ticket and tells it from a connect token.
const TicketPrefix = "rt1."

// NewTicket returns a fresh resume ticket: the prefix and 32 random bytes in
// base64url. Keep only its hash (see ParseTicket).
func NewTicket() string { return TicketPrefix + random(32) }

// ParseTicket checks the form of a resume ticket and returns the hash under
// which its session keeps it: base64url of the SHA-256 of the whole text.
func ParseTicket(raw string) (hash string, err error) {
	secret, ok := strings.CutPrefix(raw, TicketPrefix)
	var room [sha256.Size]byte
	if !ok || len(secret) != base64.RawURLEncoding.EncodedLen(len(room)) {
		return "", fmt.Errorf("cannot read resume ticket: %w", ErrMalformed)
	}
	if _, ok := decode64(room[:], secret); !ok {
		return "", fmt.Errorf("cannot read resume ticket: %w", ErrMalformed)
	}
	sum := sha256.Sum256([]byte(raw))
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
