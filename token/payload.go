package token

import (
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// maxSeconds is the largest iat or exp: the last integer that every JSON reader
// keeps exactly (RFC 8259, section 6).
const maxSeconds = 1<<53 - 1

// readPayload reads the flat object of a connect token. It is stricter than
// encoding/json, which takes the last of two equal names, replaces broken UTF-8
// and ignores case: a token must mean the same to every reader.
func readPayload(text string) (Connect, error) {
	r := reader{text: text}
	r.expect('{')
	for more := true; more; more = r.comma() {
		r.member()
	}
	r.expect('}')
	if r.space(); r.at < len(r.text) {
		r.fail("payload has bytes behind its object")
	}
	if r.flaw == "" && r.seen != allClaims {
		r.fail("a claim is missing")
	}
	if r.flaw == "" {
		r.flaw = r.claims.flaw()
	}
	if r.flaw != "" {
		return Connect{}, malformed(r.flaw)
	}
	return r.claims, nil
}

// The claims that have been read, one bit each.
const (
	claimSub = 1 << iota
	claimScope
	claimIss
	claimIat
	claimExp
	claimNonce
	allClaims = 1<<iota - 1
)

// reader walks over one JSON object. Its first flaw sticks and stops it.
type reader struct {
	text   string
	at     int
	flaw   string
	seen   int
	claims Connect
}

func (r *reader) fail(flaw string) {
	if r.flaw == "" {
		r.flaw, r.at = flaw, len(r.text)
	}
}

// member reads one name and its value.
func (r *reader) member() {
	name := r.quoted()
	r.expect(':')
	claim := 0
	switch name {
	case "sub":
		claim, r.claims.Subject = claimSub, r.quoted()
	case "scope":
		claim, r.claims.Scope = claimScope, r.quoted()
		target := strings.TrimPrefix(r.claims.Scope, scopePrefix)
		r.claims.DeviceID = strings.TrimPrefix(target, "device://")
	case "iss":
		claim, r.claims.KeyID = claimIss, r.quoted()
	case "iat":
		claim, r.claims.Issued = claimIat, r.seconds()
	case "exp":
		claim, r.claims.Expires = claimExp, r.seconds()
	case "nonce":
		claim, r.claims.Nonce = claimNonce, r.quoted()
	default:
		r.fail("payload has a claim that is not known")
	}
	if r.seen&claim != 0 {
		r.fail("payload has a claim twice")
	}
	r.seen |= claim
}

// next returns the byte at the reader without taking it; 0 at the end.
func (r *reader) next() byte {
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *reader) space() {
	for c := r.next(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = r.next() {
		r.at++
	}
}

func (r *reader) expect(c byte) {
	if r.space(); r.next() != c {
		r.fail("payload is not a flat JSON object")
		return
	}
	r.at++
}

func (r *reader) comma() bool {
	if r.space(); r.next() != ',' {
		return false
	}
	r.at++
	return true
}

// seconds reads an integer from 0 to maxSeconds. A sign, fraction or exponent is
// left for the caller to trip over.
func (r *reader) seconds() time.Time {
	r.space()
	start, n := r.at, int64(0)
	for c := r.next(); '0' <= c && c <= '9' && n <= maxSeconds; c = r.next() {
		n = n*10 + int64(c-'0')
		r.at++
	}
	digits := r.text[start:r.at]
	if digits == "" || n > maxSeconds || len(digits) > 1 && digits[0] == '0' {
		r.fail("a time is not a whole number of seconds")
	}
	return time.Unix(n, 0).UTC()
}

// quoted reads a string (RFC 8259, section 7). Without escapes the result shares
// the memory of the text.
func (r *reader) quoted() string {
	r.expect('"')
	start := r.at
	for c := r.next(); c != '"'; c = r.next() {
		if c == '\\' {
			return r.escaped(start)
		}
		if c < ' ' {
			r.fail("payload has a string without end")
			return ""
		}
		r.at++
	}
	s := r.text[start:r.at]
	r.at++
	if !utf8.ValidString(s) {
		r.fail("payload is not UTF-8")
	}
	return s
}

// escaped reads on after the first escape of the string that began at start.
func (r *reader) escaped(start int) string {
	b := append(make([]byte, 0, len(r.text)-start), r.text[start:r.at]...)
	for c := r.next(); c != '"'; c = r.next() {
		switch {
		case c < ' ':
			r.fail("payload has a string without end")
			return ""
		case c == '\\':
			b = utf8.AppendRune(b, r.escape())
		default:
			b = append(b, c)
			r.at++
		}
	}
	r.at++
	if !utf8.Valid(b) {
		r.fail("payload is not UTF-8")
	}
	return string(b)
}

// escape reads one escape, and two for a character outside the basic plane. Half
// a surrogate pair is no character.
func (r *reader) escape() rune {
	r.at++
	const names, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	c := r.next()
	r.at++
	if i := strings.IndexByte(names, c); i >= 0 {
		return rune(meant[i])
	}
	if c != 'u' {
		r.fail("payload has an escape that is not known")
		return 0
	}
	first := r.hex4()
	if !utf16.IsSurrogate(first) {
		return first
	}
	if !strings.HasPrefix(r.text[r.at:], `\u`) {
		r.fail("payload has half a surrogate pair")
		return 0
	}
	r.at += 2
	both := utf16.DecodeRune(first, r.hex4())
	if both == utf8.RuneError {
		r.fail("payload has half a surrogate pair")
	}
	return both
}

func (r *reader) hex4() (n rune) {
	if r.at+4 > len(r.text) {
		r.fail("payload has an escape that is not known")
		return 0
	}
	for _, c := range []byte(r.text[r.at : r.at+4]) {
		switch {
		case '0' <= c && c <= '9':
			n = n<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			n = n<<4 | rune(c|0x20-'a'+10)
		default:
			r.fail("payload has an escape that is not known")
			return 0
		}
	}
	r.at += 4
	return n
}
