package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// BenchmarkVerifyConnect reads and verifies one token. Compare BenchmarkBareHMACs.
func BenchmarkVerifyConnect(b *testing.B) {
	now := time.Unix(pubNow, 0)
	b.ReportAllocs()
	for b.Loop() {
		p, err := token.ParseConnect(pubToken)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Verify(secrets, now, token.Policy{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareHMACs is the least a verifier can do: the two HMACs and the text
// between them.
func BenchmarkBareHMACs(b *testing.B) {
	payload := []byte(strings.Split(pubToken, ".")[1])
	b.ReportAllocs()
	for b.Loop() {
		inner := hmac.New(sha256.New, []byte(pubDevice))
		inner.Write(payload)
		text := base64.RawURLEncoding.AppendEncode(append(payload, '.'), inner.Sum(nil))
		outer := hmac.New(sha256.New, []byte(pubSecret))
		outer.Write(text)
		outer.Sum(nil)
	}
}

func BenchmarkSignConnect(b *testing.B) {
	c := connect()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.SignConnect(c, secrets); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefuseForged(b *testing.B) {
	forged := pubToken[:len(pubToken)-2] + "1Y"
	p, err := token.ParseConnect(forged)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Verify(secrets, time.Unix(pubNow, 0), token.Policy{}); err == nil {
			b.Fatal("accepted")
		}
	}
}
