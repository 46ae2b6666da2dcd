package token_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

var secrets = token.Secrets{App: pubSecret, Device: pubDevice}

func connect() token.Connect {
	return token.Connect{
		Subject: "subject-test", DeviceID: "device-001", KeyID: "ak-test", Nonce: "AAECAwQFBgcICQoLDA0ODw",
		Issued: time.Unix(1700000000, 0), Expires: time.Unix(1700000300, 0),
	}
}

func TestSignConnectRefusesWhatNoVerifierAccepts(t *testing.T) {
	for name, change := range map[string]func(*token.Connect, *token.Secrets){
		"no subject":             func(c *token.Connect, _ *token.Secrets) { c.Subject = "" },
		"long subject":           func(c *token.Connect, _ *token.Secrets) { c.Subject = strings.Repeat("a", 257) },
		"control character":      func(c *token.Connect, _ *token.Secrets) { c.Subject = "a\tb" },
		"subject is not UTF-8":   func(c *token.Connect, _ *token.Secrets) { c.Subject = "a\xff" },
		"no device":              func(c *token.Connect, _ *token.Secrets) { c.DeviceID = "" },
		"remote id as device id": func(c *token.Connect, _ *token.Secrets) { c.DeviceID = "device://device-001" },
		"scope of another":       func(c *token.Connect, _ *token.Secrets) { c.Scope = "connect:device-002" },
		"no key":                 func(c *token.Connect, _ *token.Secrets) { c.KeyID = "" },
		"no times":               func(c *token.Connect, _ *token.Secrets) { c.Issued, c.Expires = time.Time{}, time.Time{} },
		"ends as it begins":      func(c *token.Connect, _ *token.Secrets) { c.Expires = c.Issued.Add(time.Second - 1) },
		"longer than a day":      func(c *token.Connect, _ *token.Secrets) { c.Expires = c.Issued.Add(24*time.Hour + time.Second) },
		"short nonce":            func(c *token.Connect, _ *token.Secrets) { c.Nonce = "1234567" },
		"nonce with a space":     func(c *token.Connect, _ *token.Secrets) { c.Nonce = "1234 5678" },
		"no secret key":          func(_ *token.Connect, s *token.Secrets) { s.App = "" },
		"no device secret key":   func(_ *token.Connect, s *token.Secrets) { s.Device = "" },
		"secret with a comma":    func(_ *token.Connect, s *token.Secrets) { s.Device = "device,secret" },
	} {
		t.Run(name, func(t *testing.T) {
			c, s := connect(), secrets
			change(&c, &s)
			raw, err := token.SignConnect(c, s)
			if raw != "" || token.Reason(err) == "" {
				t.Fatalf("signed %q, %v", raw, err)
			}
			if s.App != "" && strings.Contains(err.Error(), s.App) || s.Device != "" && strings.Contains(err.Error(), s.Device) {
				t.Errorf("error tells a secret: %v", err)
			}
		})
	}
}

func TestLongestClaimsFitIntoAToken(t *testing.T) {
	c := connect()
	c.Subject, c.Nonce = strings.Repeat(`"`, token.MaxSubject), strings.Repeat(`\`, token.MaxNonce)
	c.KeyID, c.DeviceID = strings.Repeat("k", token.MaxKeyID), strings.Repeat("d", token.MaxDeviceID)
	raw, err := token.SignConnect(c, secrets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.ParseConnect(raw); err != nil {
		t.Error(err)
	}
}

func TestMissingSecretsNeverVerify(t *testing.T) {
	payload := b64([]byte(pubPayload))
	forged := "v1." + payload + "." + sum("", payload+"."+sum("", payload))
	forgedOneKey := "v1." + payload + "." + sum("", payload)
	for _, raw := range []string{forged, forgedOneKey, pubToken} {
		p, err := token.ParseConnect(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Verify(token.Secrets{}, time.Unix(pubNow, 0), token.Policy{OneKey: true})
		if !errors.Is(err, token.ErrSignature) {
			t.Errorf("verified without secrets: %v", err)
		}
	}
}

func TestTokenIDDependsOnKeyAndNonceAlone(t *testing.T) {
	a, b := connect(), connect()
	b.Subject, b.DeviceID, b.Issued = "another", "device-002", b.Issued.Add(-time.Hour)
	if a.ID() != b.ID() || len(a.ID()) != 22 {
		t.Errorf("ids %q and %q", a.ID(), b.ID())
	}
	b.Nonce += "x"
	if a.ID() == b.ID() {
		t.Error("two nonces share an id")
	}
}

func TestTicketsAreFreshAndHashed(t *testing.T) {
	a, b := token.NewTicket(), token.NewTicket()
	ha, err := token.ParseTicket(a)
	if err != nil {
		t.Fatal(err)
	}
	hb, err := token.ParseTicket(b)
	if err != nil {
		t.Fatal(err)
	}
	if a == b || ha == hb || len(ha) != 43 || strings.Contains(a, ha) {
		t.Errorf("tickets %q %q, hashes %q %q", a, b, ha, hb)
	}
}

func TestRemoteIDs(t *testing.T) {
	for in, want := range map[string]string{
		"device-001":             "device-001",
		"device://device-001":    "device-001",
		" device://device-001\n": "device-001",
		"":                       "",
		"device://":              "",
		"device://device://a":    "",
		"https://device-001":     "",
		"-a":                     "",
		"a/b":                    "",
	} {
		if got, err := token.ParseRemoteID(in); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseRemoteID(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestLicenseErrorsHideTheSecret(t *testing.T) {
	if _, err := token.ParseLicense("bad id,very-secret"); err == nil || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("got %v", err)
	}
}

func TestPolicyNormal(t *testing.T) {
	for name, c := range map[string]struct{ in, want token.Policy }{
		"defaults": {token.Policy{}, token.Policy{Skew: 30 * time.Second, MaxTTL: 24 * time.Hour}},
		"negative": {token.Policy{Skew: -1, MaxTTL: -1}, token.Policy{Skew: 30 * time.Second, MaxTTL: 24 * time.Hour}},
		"capped":   {token.Policy{Skew: time.Hour, MaxTTL: 1 << 60}, token.Policy{Skew: 5 * time.Minute, MaxTTL: 24 * time.Hour}},
		"kept":     {token.Policy{Skew: 1, MaxTTL: 2, OneKey: true}, token.Policy{Skew: 1, MaxTTL: 2, OneKey: true}},
		"the rule": {token.Policy{EndExpiry: true}, token.Policy{Skew: 30 * time.Second, MaxTTL: 24 * time.Hour, EndExpiry: true}},
	} {
		if got := c.in.Normal(); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestReasonKnowsWrappedRefusalsOnly(t *testing.T) {
	if got := token.Reason(fmt.Errorf("cannot admit: %w", token.ErrSpent)); got != "spent" {
		t.Errorf("got %q", got)
	}
	if got := token.Reason(errors.New("disk full")) + token.Reason(nil); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestKeyIsActiveUntilItRetiresOrIsRevoked(t *testing.T) {
	now := time.Unix(pubNow, 0)
	for name, c := range map[string]struct {
		key  token.Key
		want bool
	}{
		"never retires":   {token.Key{}, true},
		"before its end":  {token.Key{Retires: now.Add(1)}, true},
		"at its end":      {token.Key{Retires: now}, false},
		"after its end":   {token.Key{Retires: now.Add(-1)}, false},
		"revoked":         {token.Key{Revoked: true}, false},
		"revoked earlier": {token.Key{Revoked: true, Retires: now.Add(1)}, false},
	} {
		if got := c.key.Active(now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestSecretsAndNoncesAreFreshAndValid(t *testing.T) {
	if a, b := token.NewSecret(), token.NewSecret(); a == b || !token.ValidSecret(a) || len(a) != 43 {
		t.Errorf("secrets %q and %q", a, b)
	}
	if a, b := token.NewNonce(), token.NewNonce(); a == b || len(a) != 22 {
		t.Errorf("nonces %q and %q", a, b)
	}
}
