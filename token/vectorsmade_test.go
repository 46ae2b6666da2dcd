package token_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// The published vector: known from outside, not made by this code.
const (
	pubPayload = `{"sub":"subject-test","scope":"connect:device://device-001","iss":"ak-test",` +
		`"iat":1700000000,"exp":1700000300,"nonce":"AAECAwQFBgcICQoLDA0ODw"}`
	pubToken = "v1.eyJzdWIiOiJzdWJqZWN0LXRlc3QiLCJzY29wZSI6ImNvbm5lY3Q6ZGV2aWNlOi8vZGV2aWNlLTAwMSIs" +
		"ImlzcyI6ImFrLXRlc3QiLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDMwMCwibm9uY2UiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3In0" +
		".ttJRiSYSBjJIMXLi9ZTufCjaxPHYojtkH6VProqdB1U"
	pubOneKeySig = "qhZfgJqr3rypI7OMu0hRbzYP5uj2nRmPXB6tgqRUwc0"
	pubSecret    = "sid-test"
	pubDevice    = "device-secret"
	pubNow       = 1700000010
)

// TestVectorFilesAreCurrent makes the vector files anew, with an HMAC of its own
// and not with this package's signer, and compares. UPDATE_VECTORS=1 writes them.
func TestVectorFilesAreCurrent(t *testing.T) {
	for name, vectors := range map[string]any{
		"connect-token.json": append(goodVectors(), badVectors()...),
		"device-proof.json":  proofVectors(),
	} {
		want := encodeVectors(t, vectors)
		if os.Getenv("UPDATE_VECTORS") != "" {
			if err := os.WriteFile(vectorFile(name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(vectorFile(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what this test makes; run it with UPDATE_VECTORS=1 and read the difference", name)
		}
	}
}

func encodeVectors(t *testing.T, vectors any) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(map[string]any{"vectors": vectors}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func sum(key, text string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(text))
	return b64(h.Sum(nil))
}

// signed makes a two-key token of any payload, however wrong.
func signed(payload string) string {
	p := b64([]byte(payload))
	return "v1." + p + "." + sum(pubSecret, p+"."+sum(pubDevice, p))
}

func good(name, raw string, policy *vectorPolicy, c vectorClaims) vector {
	id := sha256.Sum256([]byte(c.Iss + "\n" + c.Nonce))
	v := vector{Name: name, Token: raw, Secret: pubSecret, Device: pubDevice, Now: pubNow, Policy: policy}
	sign := c
	v.Sign = &sign
	v.Sign.DeviceID = ""
	c.ID, c.Scope = b64(id[:])[:22], ""
	v.Claims = &c
	return v
}

func goodVectors() []vector {
	pub := vectorClaims{
		Sub: "subject-test", Scope: "connect:device://device-001", DeviceID: "device-001",
		Iss: "ak-test", Iat: 1700000000, Exp: 1700000300, Nonce: "AAECAwQFBgcICQoLDA0ODw",
	}
	head, _, _ := strings.Cut(strings.TrimPrefix(pubToken, "v1."), ".")
	bare := pub
	bare.Scope = "connect:device-001"
	text := pub
	text.Sub, text.Nonce = `Zoë "🚲" \ <b>`, `~!"\{}[],:;`
	oneKey := &vectorPolicy{OneKey: true}
	vectors := []vector{
		good("published, two keys", pubToken, nil, pub),
		good("published payload, one key", "v1."+head+"."+pubOneKeySig, oneKey, pub),
		good("bare scope", signed(strings.Replace(pubPayload, "device://", "", 1)), nil, bare),
		good("text beyond ASCII and quotes", signed(`{"sub":"Zoë \"🚲\" \\ <b>","scope":"connect:device://device-001","iss":"ak-test",`+
			`"iat":1700000000,"exp":1700000300,"nonce":"~!\"\\{}[],:;"}`), nil, text),
	}
	unsigned := func(name, raw string, policy *vectorPolicy, c vectorClaims, now int64) {
		v := good(name, raw, policy, c)
		v.Sign, v.Now = nil, now
		vectors = append(vectors, v)
	}
	unsigned("two keys where one key is accepted as well", pubToken, oneKey, pub, pubNow)
	unsigned("escaped names and values, other order, white space", signed(" {\t\"nonce\" : \"AAECAwQFBgcICQoLDA0ODw\" ,\r\n"+
		`"exp":1700000300,"iat":1700000000,"\u0069ss":"ak\u002dtest","scope":"connect:device:\/\/device-001",`+
		`"sub":"Zo\u00eb \"\uD83D\uDEB2\" \\ <b>"}`+"\n"), nil, func() vectorClaims { c := pub; c.Sub = text.Sub; return c }(), pubNow)
	unsigned("last second before iat allows, skew 30", pubToken, nil, pub, 1700000000-30)
	unsigned("last second before expiry, skew 30", pubToken, nil, pub, 1700000300+29)
	unsigned("last second before expiry, skew 5", pubToken, &vectorPolicy{Skew: 5}, pub, 1700000300+4)
	unsigned("lifetime exactly as long as allowed", pubToken, &vectorPolicy{MaxTTL: 300}, pub, pubNow)
	unsigned("skew is at most five minutes", pubToken, &vectorPolicy{Skew: 3600}, pub, 1700000300+299)
	return vectors
}

func badVectors() []vector {
	parts := strings.Split(pubToken, ".")
	payload, sig := parts[1], parts[2]
	var vectors []vector
	add := func(refused, name, raw string, change ...func(*vector)) {
		v := vector{Name: name, Token: raw, Secret: pubSecret, Device: pubDevice, Now: pubNow, Refused: refused}
		for _, f := range change {
			f(&v)
		}
		vectors = append(vectors, v)
	}
	with := func(old, new string) string { return signed(strings.Replace(pubPayload, old, new, 1)) }

	add("signature", "wrong secret key", pubToken, func(v *vector) { v.Secret = "sid-tesT" })
	add("signature", "wrong device secret key", pubToken, func(v *vector) { v.Device = "device-secreT" })
	add("signature", "secret keys exchanged", pubToken, func(v *vector) { v.Secret, v.Device = v.Device, v.Secret })
	add("signature", "one key where two are demanded", "v1."+payload+"."+pubOneKeySig)
	add("signature", "one key, wrong secret key", "v1."+payload+"."+pubOneKeySig,
		func(v *vector) { v.Secret, v.Policy = "sid-tesT", &vectorPolicy{OneKey: true} })
	add("signature", "signature of another payload", "v1."+b64([]byte(strings.Replace(pubPayload, "001", "002", 1)))+"."+sig)
	add("signature", "inner signature used as raw bytes", rawInner(payload))

	add("expired", "expired at the boundary", pubToken, func(v *vector) { v.Now = 1700000300 + 30 })
	add("expired", "expired at the boundary, skew 5", pubToken, func(v *vector) { v.Now, v.Policy = 1700000300+5, &vectorPolicy{Skew: 5} })
	add("expired", "expired where skew is at most five minutes", pubToken, func(v *vector) { v.Now, v.Policy = 1700000300+300, &vectorPolicy{Skew: 3600} })
	add("not_yet_valid", "issued in the future at the boundary", pubToken, func(v *vector) { v.Now = 1700000000 - 31 })
	add("lifetime", "one second longer than the app allows", pubToken, func(v *vector) { v.Policy = &vectorPolicy{MaxTTL: 299} })
	add("lifetime", "one second longer than a day", with("1700000300", "1700086401"))
	add("lifetime", "no app can allow more than a day", with("1700000300", "1700086401"),
		func(v *vector) { v.Policy = &vectorPolicy{MaxTTL: 1 << 20} })
	add("signature", "forged and expired says nothing about time", pubToken,
		func(v *vector) { v.Secret, v.Now = "sid-tesT", 1800000000 })

	add("version", "version 2", "v2."+payload+"."+sig)
	add("version", "no version", "."+payload+"."+sig)
	add("malformed", "empty", "")
	add("malformed", "cut", pubToken[:len(pubToken)-1])
	add("malformed", "signature missing", "v1."+payload)
	add("malformed", "signature empty", "v1."+payload+".")
	add("malformed", "payload empty", "v1.."+sig)
	add("malformed", "swapped parts", "v1."+sig+"."+payload)
	add("malformed", "a fourth part", pubToken+"."+sig)
	add("malformed", "padding added to the signature", pubToken+"=")
	add("malformed", "padding added to the payload", "v1."+payload+"=."+sig)
	add("malformed", "signature not canonical", pubToken[:len(pubToken)-1]+"V")
	add("malformed", "payload not canonical", "v1."+payload[:len(payload)-1]+"1."+sig)
	add("malformed", "standard base64 alphabet", "v1."+payload+"."+strings.Replace(sig, "t", "+", 1))
	add("malformed", "line end inside", "v1."+payload[:8]+"\n"+payload[8:]+"."+sig)
	add("malformed", "space behind", pubToken+" ")
	add("malformed", "signature one byte longer", "v1."+payload+"."+b64(make([]byte, 33)))
	add("malformed", "huge payload", signed(`{"sub":"`+strings.Repeat("a", 2048)+pubPayload[8:]))
	add("malformed", "huge token of dots", strings.Repeat(".", 4096))

	for _, w := range wrongPayloads() {
		add("malformed", w[0], signed(w[1]))
	}
	return vectors
}

func rawInner(payload string) string {
	h := hmac.New(sha256.New, []byte(pubDevice))
	h.Write([]byte(payload))
	return "v1." + payload + "." + sum(pubSecret, payload+"."+string(h.Sum(nil)))
}

// wrongPayloads are signed well and must still be refused, so that all verifiers
// read the same from a token.
func wrongPayloads() [][2]string {
	with := func(old, new string) string { return strings.Replace(pubPayload, old, new, 1) }
	return [][2]string{
		{"no JSON", "subject-test"},
		{"an array", "[" + pubPayload + "]"},
		{"an empty object", "{}"},
		{"not closed", pubPayload[:len(pubPayload)-1]},
		{"bytes behind the object", pubPayload + "{}"},
		{"byte order mark", "\ufeff" + pubPayload},
		{"comma before the end", with(`"}`, `",}`)},
		{"single quotes", strings.ReplaceAll(pubPayload, `"`, `'`)},
		{"claim twice", with(`"iss"`, `"sub":"subject-test","iss"`)},
		{"claim twice, once escaped", with(`"iss"`, `"\u0073ub":"admin","iss"`)},
		{"unknown claim", with(`"iss"`, `"aud":"x","iss"`)},
		{"name in capitals", with(`"sub"`, `"SUB"`)},
		{"sub missing", with(`"sub":"subject-test",`, "")},
		{"scope missing", with(`"scope":"connect:device://device-001",`, "")},
		{"iss missing", with(`"iss":"ak-test",`, "")},
		{"iat missing", with(`"iat":1700000000,`, "")},
		{"exp missing", with(`"exp":1700000300,`, "")},
		{"nonce missing", with(`,"nonce":"AAECAwQFBgcICQoLDA0ODw"`, "")},
		{"sub is a number", with(`"subject-test"`, `17`)},
		{"sub is null", with(`"subject-test"`, `null`)},
		{"sub is an object", with(`"subject-test"`, `{"a":"b"}`)},
		{"exp is a string", with(`1700000300`, `"1700000300"`)},
		{"exp is a float", with(`1700000300`, `1700000300.0`)},
		{"exp has an exponent", with(`1700000300`, `17000003e2`)},
		{"exp beyond exact integers", with(`1700000300`, `9007199254740992`)},
		{"exp beyond 64 bits", with(`1700000300`, `18446744075409551916`)},
		{"iat is negative", with(`1700000000`, `-1`)},
		{"iat is minus zero", with(`1700000000`, `-0`)},
		{"iat has a leading zero", with(`1700000000`, `01700000000`)},
		{"exp equals iat", with(`1700000300`, `1700000000`)},
		{"exp before iat", with(`1700000300`, `1699999999`)},
		{"sub is empty", with(`subject-test`, ``)},
		{"sub of 257 bytes", with(`subject-test`, strings.Repeat("a", 257))},
		{"sub with a control character", with(`subject-test`, `a\nb`)},
		{"sub with a control character of 0x80 to 0x9f", with(`subject-test`, `a\u0085b`)},
		{"raw control character", with(`subject-test`, "a\nb")},
		{"invalid UTF-8", with(`subject-test`, "a\xffb")},
		{"overlong UTF-8", with(`subject-test`, "a\xc0\xafb")},
		{"half a surrogate pair", with(`subject-test`, `\ud83d`)},
		{"surrogates exchanged", with(`subject-test`, `\udeb2\ud83d`)},
		{"unknown escape", with(`subject-test`, `\x41`)},
		{"short escape", with(`subject-test`, `\u41`)},
		{"wrong scope", with(`connect:`, `watch:`)},
		{"scope without target", with(`connect:device://device-001`, `connect:`)},
		{"wrong scope scheme", with(`device://`, `https://`)},
		{"scope scheme in capitals", with(`device://`, `DEVICE://`)},
		{"scope scheme twice", with(`device://`, `device://device://`)},
		{"scope with a path", with(`device-001`, `device-001/x`)},
		{"scope for all devices", with(`device-001`, `*`)},
		{"scope with a space", with(`device-001`, `device-001 `)},
		{"device id of 33 characters", with(`device-001`, strings.Repeat("d", 33))},
		{"iss is empty", with(`ak-test`, ``)},
		{"iss of 65 characters", with(`ak-test`, strings.Repeat("k", 65))},
		{"iss with a line end", with(`ak-test`, `ak\ntest`)},
		{"nonce of 7 characters", with(`AAECAwQFBgcICQoLDA0ODw`, `AAECAwQ`)},
		{"nonce of 129 characters", with(`AAECAwQFBgcICQoLDA0ODw`, strings.Repeat("n", 129))},
		{"nonce with a space", with(`AAECAwQFBgcICQoLDA0ODw`, `AAECAwQF BgcICQ`)},
		{"nonce beyond ASCII", with(`AAECAwQFBgcICQoLDA0ODw`, `AAECAwQFé`)},
		{"nonce is a number", with(`"AAECAwQFBgcICQoLDA0ODw"`, `1234567890`)},
	}
}

func proofVectors() []proofVector {
	vectors := []proofVector{
		{Name: "plain", Secret: "device-secret", ServerNonce: b64(bytes.Repeat([]byte{1}, 32)),
			DeviceNonce: b64(bytes.Repeat([]byte{2}, 16)), DeviceID: "device-001", ClientID: "00:11:22:33:44:55"},
		{Name: "longest nonces and names", Secret: strings.Repeat("s", 128), ServerNonce: b64(bytes.Repeat([]byte{0xfb}, 32)),
			DeviceNonce: b64(bytes.Repeat([]byte{0xff}, 32)), DeviceID: strings.Repeat("D", 32), ClientID: strings.Repeat("~", 64)},
	}
	for i := range vectors {
		v := &vectors[i]
		v.Proof = sum(v.Secret, strings.Join([]string{"turnpike-device-v1", v.ServerNonce, v.DeviceNonce, v.DeviceID, v.ClientID}, "\n"))
		v.ServerProof = sum(v.Secret, strings.Join([]string{"turnpike-server-v1", v.DeviceNonce, v.ServerNonce}, "\n"))
	}
	return vectors
}
