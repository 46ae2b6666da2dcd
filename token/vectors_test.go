package token_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// vector is one line of protocol/vectors/connect-token.json; protocol/token.md,
// section 5, says what the members mean.
type vector struct {
	Name    string        `json:"name"`
	Token   string        `json:"token"`
	Secret  string        `json:"secret_key"`
	Device  string        `json:"device_secret_key"`
	Now     int64         `json:"now"`
	Policy  *vectorPolicy `json:"policy,omitempty"`
	Claims  *vectorClaims `json:"claims,omitempty"`
	Sign    *vectorClaims `json:"sign,omitempty"`
	Refused string        `json:"refused,omitempty"`
}

type vectorPolicy struct {
	Skew   int64 `json:"skew,omitempty"`
	MaxTTL int64 `json:"max_ttl,omitempty"`
	OneKey bool  `json:"one_key,omitempty"`
}

type vectorClaims struct {
	Sub      string `json:"sub"`
	Scope    string `json:"scope,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	Iss      string `json:"iss"`
	Iat      int64  `json:"iat"`
	Exp      int64  `json:"exp"`
	Nonce    string `json:"nonce"`
	ID       string `json:"id,omitempty"`
}

// proofVector is one line of protocol/vectors/device-proof.json.
type proofVector struct {
	Name        string `json:"name"`
	Secret      string `json:"device_secret_key"`
	ServerNonce string `json:"server_nonce"`
	DeviceNonce string `json:"device_nonce"`
	DeviceID    string `json:"device_id"`
	ClientID    string `json:"client_id"`
	Proof       string `json:"device_proof"`
	ServerProof string `json:"server_proof"`
}

func TestConnectTokenVectors(t *testing.T) {
	for _, v := range readVectors[vector](t, "connect-token.json") {
		t.Run(v.Name, func(t *testing.T) {
			got, err := v.verify()
			if v.Refused != "" {
				if err == nil || token.Reason(err) != v.Refused {
					t.Fatalf("refused as %q (%v), want %q", token.Reason(err), err, v.Refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := *v.Claims
			if got := claimsOf(got); got != want {
				t.Errorf("claims %+v, want %+v", got, want)
			}
			if v.Sign != nil {
				v.checkSigning(t)
			}
		})
	}
}

func (v vector) verify() (token.Connect, error) {
	p, err := token.ParseConnect(v.Token)
	if err != nil {
		return token.Connect{}, err
	}
	var policy token.Policy
	if v.Policy != nil {
		policy.Skew = time.Duration(v.Policy.Skew) * time.Second
		policy.MaxTTL = time.Duration(v.Policy.MaxTTL) * time.Second
		policy.OneKey = v.Policy.OneKey
	}
	return p.Verify(token.Secrets{App: v.Secret, Device: v.Device}, time.Unix(v.Now, 0), policy)
}

func (v vector) checkSigning(t *testing.T) {
	t.Helper()
	c := token.Connect{
		Subject: v.Sign.Sub, Scope: v.Sign.Scope, DeviceID: v.Claims.DeviceID, KeyID: v.Sign.Iss,
		Issued: time.Unix(v.Sign.Iat, 0), Expires: time.Unix(v.Sign.Exp, 0), Nonce: v.Sign.Nonce,
	}
	raw, err := token.SignConnect(c, token.Secrets{App: v.Secret, Device: v.Device})
	if v.Policy != nil && v.Policy.OneKey {
		raw, err = token.SignConnectOneKey(c, v.Secret)
	}
	if err != nil || raw != v.Token {
		t.Errorf("signed\n%s (%v), want\n%s", raw, err, v.Token)
	}
}

func claimsOf(c token.Connect) vectorClaims {
	return vectorClaims{
		Sub: c.Subject, DeviceID: c.DeviceID, Iss: c.KeyID,
		Iat: c.Issued.Unix(), Exp: c.Expires.Unix(), Nonce: c.Nonce, ID: c.ID(),
	}
}

func TestDeviceProofVectors(t *testing.T) {
	for _, v := range readVectors[proofVector](t, "device-proof.json") {
		t.Run(v.Name, func(t *testing.T) {
			got := token.DeviceProof(v.Secret, v.ServerNonce, v.DeviceNonce, v.DeviceID, v.ClientID)
			if got != v.Proof {
				t.Errorf("device proof %s, want %s", got, v.Proof)
			}
			if got := token.ServerProof(v.Secret, v.DeviceNonce, v.ServerNonce); got != v.ServerProof {
				t.Errorf("server proof %s, want %s", got, v.ServerProof)
			}
		})
	}
}

func vectorFile(name string) string {
	return filepath.Join("..", "protocol", "vectors", name)
}

func readVectors[V any](t testing.TB, name string) []V {
	t.Helper()
	text, err := os.ReadFile(vectorFile(name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []V }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("cannot read %s: %v", name, err)
	}
	if len(file.Vectors) == 0 {
		t.Fatalf("%s has no vectors", name)
	}
	return file.Vectors
}
