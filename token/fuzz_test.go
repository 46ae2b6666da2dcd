package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// What this package reads from a token, encoding/json must read as well, with
// the same values: two readers that differ are a way around a check.
func FuzzParseConnect(f *testing.F) {
	for _, v := range append(goodVectors(), badVectors()...) {
		f.Add(v.Token)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := token.ParseConnect(raw)
		if err != nil {
			if r := token.Reason(err); r != "malformed" && r != "version" {
				t.Fatalf("refused as %q: %v", r, err)
			}
			return
		}
		agree(t, strings.Split(raw, ".")[1], p)
	})
}

// The same, for payloads that reach the JSON reader however they are spelled.
func FuzzPayload(f *testing.F) {
	f.Add(pubPayload)
	for _, w := range wrongPayloads() {
		f.Add(w[1])
	}
	f.Fuzz(func(t *testing.T, payload string) {
		raw := signed(payload)
		p, err := token.ParseConnect(raw)
		if err != nil {
			return
		}
		agree(t, base64.RawURLEncoding.EncodeToString([]byte(payload)), p)
		c, err := p.Verify(token.Secrets{App: pubSecret, Device: pubDevice}, time.Unix(1<<54, 0), token.Policy{})
		if err == nil || token.Reason(err) == "signature" {
			t.Fatalf("got %+v, %v for a genuine token at the end of time", c, err)
		}
	})
}

func agree(t *testing.T, payload string, p token.ParsedConnect) {
	t.Helper()
	text, err := base64.RawURLEncoding.Strict().DecodeString(payload)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil || len(m) != 6 {
		t.Fatalf("encoding/json reads %v, %v from %q", m, err, text)
	}
	scope, _ := m["scope"].(string)
	device := strings.TrimPrefix(strings.TrimPrefix(scope, "connect:"), "device://")
	if m["iss"] != p.KeyID || m["sub"] != p.Subject() || device != p.DeviceID {
		t.Fatalf("encoding/json reads %v, ParseConnect %+v", m, p)
	}
	for _, name := range []string{"iat", "exp"} {
		if n, ok := m[name].(json.Number); !ok || strings.ContainsAny(n.String(), ".eE-") {
			t.Fatalf("%s is %v", name, m[name])
		}
	}
}

// Whatever SignConnect signs verifies, and says the same.
func FuzzSignAndVerify(f *testing.F) {
	f.Add("user-17", "device-001", "ak-test", int64(1700000000), int64(300), "AAECAwQFBgcICQoLDA0ODw", true)
	f.Add(`"\`, "D", "k", int64(0), int64(1), `"\"\"\"\`, false)
	f.Add("Zoë\u2028", strings.Repeat("d", 32), strings.Repeat("k", 64), int64(1)<<52, int64(86400), strings.Repeat("~", 128), true)
	secrets := token.Secrets{App: pubSecret, Device: pubDevice}
	f.Fuzz(func(t *testing.T, sub, device, key string, iat, ttl int64, nonce string, scheme bool) {
		c := token.Connect{
			Subject: sub, DeviceID: device, KeyID: key, Nonce: nonce, Scope: "connect:" + device,
			Issued: time.Unix(iat, 0).UTC(), Expires: time.Unix(iat, 0).Add(time.Duration(ttl) * time.Second).UTC(),
		}
		if scheme {
			c.Scope = "connect:device://" + device
		}
		raw, err := token.SignConnect(c, secrets)
		if err != nil {
			return
		}
		p, err := token.ParseConnect(raw)
		if err != nil {
			t.Fatalf("cannot read what was signed: %v", err)
		}
		got, err := p.Verify(secrets, c.Issued, token.Policy{})
		if err != nil || got != c {
			t.Fatalf("got %+v, %v, want %+v", got, err, c)
		}
	})
}

func FuzzParseTicket(f *testing.F) {
	f.Add("rt1." + strings.Repeat("A", 43))
	f.Add("rt1." + strings.Repeat("A", 42) + "B")
	f.Add("rt1." + strings.Repeat("A", 42) + "\n")
	f.Add("v1.a.b")
	f.Fuzz(func(t *testing.T, raw string) {
		hash, err := token.ParseTicket(raw)
		if err != nil {
			if hash != "" || token.Reason(err) != "malformed" {
				t.Fatalf("hash %q with error %v", hash, err)
			}
			return
		}
		secret, err := base64.RawURLEncoding.Strict().DecodeString(raw[len("rt1."):])
		if err != nil || len(raw) != 47 || "rt1."+b64(secret) != raw {
			t.Fatalf("took %q for a ticket", raw)
		}
	})
}

func FuzzParseLicense(f *testing.F) {
	f.Add("AABBCCDDEEFF,device-secret")
	f.Add(" a,bbbbbbbb\n")
	f.Add("a,b,c")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := token.ParseLicense(s)
		if err != nil {
			return
		}
		if again, err := token.ParseLicense(l.String()); err != nil || again != l {
			t.Fatalf("%q reads as %+v, and again as %+v, %v", s, l, again, err)
		}
	})
}
