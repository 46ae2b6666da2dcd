package signal

import (
	"encoding/base64"
	"fmt"
	"unicode/utf8"
)

// first returns the first error of a list of checks.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func wrong(member string) error { return fmt.Errorf("%s is wrong: %w", member, ErrMalformed) }

// sized accepts UTF-8 text of least to most bytes.
func sized(member, s string, least, most int) error {
	if len(s) < least || len(s) > most || !utf8.ValidString(s) {
		return wrong(member)
	}
	return nil
}

// printable accepts least to most printable ASCII characters.
func printable(member, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return wrong(member)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return wrong(member)
		}
	}
	return nil
}

// name accepts 1 to most letters, digits, '-' and '_'.
func name(member, s string, most int) error {
	if s == "" || len(s) > most {
		return wrong(member)
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return wrong(member)
		}
	}
	return nil
}

func session(s string) error      { return name("session", s, MaxSession) }
func code(member, s string) error { return name(member, s, MaxCode) }
func streamID(n int) error        { return between("stream", n, 0, 255) }

// requestID accepts what every JSON implementation can carry exactly (RFC 8259, 6).
func requestID(n int64) error {
	if n < 0 || n > 1<<53-1 {
		return wrong("id")
	}
	return nil
}

func between(member string, n, least, most int) error {
	if n < least || n > most {
		return wrong(member)
	}
	return nil
}

func atLeast(member string, n, least int64) error {
	if n < least {
		return wrong(member)
	}
	return nil
}

// nonce accepts canonical base64url without padding of least to most bytes.
func nonce(member, s string, least, most int) error {
	if len(s) > base64.RawURLEncoding.EncodedLen(most) {
		return wrong(member)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < least || len(b) > most || base64.RawURLEncoding.EncodedLen(len(b)) != len(s) {
		return wrong(member)
	}
	return nil
}

func sessions(member string, list []string) error {
	if len(list) > MaxSessions {
		return wrong(member)
	}
	for _, s := range list {
		if name(member, s, MaxSession) != nil {
			return wrong(member)
		}
	}
	return nil
}

func streamIDs(member string, list []int) error {
	if len(list) > MaxStreams {
		return wrong(member)
	}
	for _, n := range list {
		if streamID(n) != nil {
			return wrong(member)
		}
	}
	return nil
}

func servers(list []ICEServer) error {
	if len(list) > MaxServers {
		return wrong("ice_servers")
	}
	for _, s := range list {
		if len(s.URLs) == 0 || len(s.URLs) > MaxServers {
			return wrong("ice_servers")
		}
		for _, u := range s.URLs {
			if printable("urls", u, 1, MaxText) != nil {
				return wrong("ice_servers")
			}
		}
		if sized("username", s.Username, 0, MaxText) != nil || sized("credential", s.Credential, 0, MaxText) != nil {
			return wrong("ice_servers")
		}
	}
	return nil
}
