package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"github.com/turnpike-rtc/turnpike/token"
)

func TestExitCodesTellWhatHappened(t *testing.T) {
	c := newCLI(t)
	c.house()
	for _, x := range []struct {
		line string
		code int
		say  string
	}{
		{"app list", exitDone, ""},
		{"version", exitDone, ""},
		{"--help", exitDone, ""},
		{"device", exitDone, ""},
		{"nonsense", exitUsage, "no such command"},
		{"device nonsense", exitUsage, "no such command"},
		{"device list", exitUsage, "--app"},
		{"device list --nonsense", exitUsage, "unknown flag"},
		{"device show", exitUsage, "accepts 1 arg"},
		{"app set garage", exitUsage, "at least one setting"},
		{"app set garage --skew ages", exitUsage, "whole seconds"},
		{"serve --nonsense", exitUsage, "unknown flag"},
		{"serve --drain ages", exitUsage, "duration"},
		{"token connect --sub u", exitUsage, "--remote-id"},
		{"token connect --sub u --remote-id CAM01", exitUsage, "TURNPIKE_ACCESS_ID"},
		{"token connect --access-id a --secret-key secret-secret --device-secret-key secret-secret --sub u --remote-id rtsp://x", exitUsage, "remote id"},
		{"token connect --access-id a --secret-key secret-secret --device-secret-key secret-secret --sub u --remote-id x --ttl 86401", exitUsage, "24h"},
		{"token revoke", exitUsage, "name a token"},
		{"token revoke --id abc", exitUsage, "--app"},
		{"device run --video x.h264", exitUsage, "TURNPIKE_LICENSE"},
		{"device run --license CAM01,secret-secret", exitUsage, "--video"},
		{"device run --license CAM01,secret-secret --video nowhere.h264", exitFailed, "nowhere.h264"},
		{"device show nobody", exitRefused, "not_found"},
		{"app create garage", exitRefused, "exists"},
		{"app create api", exitRefused, "reserved_name"},
		{"device add --app garage a.b", exitRefused, "invalid"},
		{"key revoke nobody", exitRefused, "not_found"},
		{"session end nobody", exitRefused, "not_found"},
		{"token verify v1.x.y", exitRefused, ""},
	} {
		r := c.run(strings.Fields(x.line)...)
		if r.code != x.code {
			t.Errorf("%s: exit code %d, want %d: %s", x.line, r.code, x.code, r.err)
		}
		if !strings.Contains(r.err, x.say) || (x.say == "") != (r.err == "") {
			t.Errorf("%s: says %q, want %q", x.line, r.err, x.say)
		}
		if r.err != "" && !strings.HasPrefix(r.err, "turnpike: cannot ") {
			t.Errorf("%s: error does not say what it cannot: %q", x.line, r.err)
		}
		if strings.Contains(r.err, "secret-secret") {
			t.Errorf("%s: the error shows a secret: %q", x.line, r.err)
		}
	}
}

func TestWithoutServerAndDirectoryNothingIsReached(t *testing.T) {
	t.Chdir(t.TempDir())
	c := newCLI(t)
	r := c.typed("", "app", "list")
	if r.code != exitUnreachable || !strings.Contains(r.err, "turnpike serve") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

func TestUnknownSettingNamesTheNearest(t *testing.T) {
	c := newCLI(t)
	r := c.run("app", "list", "--config", "/nowhere.yaml")
	if r.code != exitUsage {
		t.Errorf("missing configuration: exit code %d: %s", r.code, r.err)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	root := newRoot(&shell{})
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" {
			t.Errorf("%s has no short description", c.CommandPath())
		}
		if !c.HasSubCommands() && c.Example == "" && !strings.Contains(c.CommandPath(), "completion") {
			t.Errorf("%s has no example", c.CommandPath())
		}
		if c.Name() == "list" && c.Flag("json") == nil {
			t.Errorf("%s has no --json", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
}

func TestWritesCompletionScripts(t *testing.T) {
	for _, sh := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := newCLI(t).run("completion", sh); r.code != exitDone || !strings.Contains(r.out, "turnpike") {
			t.Errorf("%s: exit code %d: %.80s%s", sh, r.code, r.out, r.err)
		}
	}
}

func TestManagesADirectoryWithoutServer(t *testing.T) {
	c := newCLI(t)
	h := c.house()
	if h.App != "garage" || h.AccessID == "" || h.SecretKey == "" || h.License != "CAM01,"+h.DeviceSecretKey {
		t.Fatalf("made %+v", h)
	}
	var a app
	c.read(&a, "app", "set", "garage", "--max-ttl", "1h", "--skew", "10", "--end-on-expiry", "--issuer", "https://id.example.com")
	if a.Policy.MaxTTL != 3600 || a.Policy.Skew != 10 || !a.Policy.EndOnExpiry || a.Policy.OneKey || a.Identity.Issuer != "https://id.example.com" {
		t.Errorf("app set: %+v", a)
	}
	var k newKey
	c.read(&k, "key", "rotate", h.AccessID, "--overlap", "1h")
	var keys []key
	c.read(&keys, "key", "list", "--app", "garage")
	if len(keys) != 2 || keyState(keys[0]) == keyState(keys[1]) {
		t.Errorf("keys after a rotation: %+v", keys)
	}
	c.must("key", "revoke", h.AccessID)
	c.must("grant", "add", "--app", "garage", "--subject", "user-17", "--device", "*")
	var grants []grant
	c.read(&grants, "grant", "list", "--app", "garage")
	if len(grants) != 1 || grants[0].Subject != "user-17" || grants[0].Resource != "device:*" {
		t.Errorf("grants: %+v", grants)
	}
	c.must("grant", "remove", "--app", "garage", "--sub", "user-17", "--device", "*")
	for _, verb := range []string{"disable", "enable", "release", "remove"} {
		c.must("device", verb, "CAM01")
	}
	var devices []device
	c.read(&devices, "device", "list", "--app", "garage")
	if len(devices) != 0 {
		t.Errorf("devices after remove: %+v", devices)
	}
	var events []event
	c.read(&events, "events", "--app", "garage", "--limit", "1000")
	if len(events) < 10 || events[0].Actor != "operator" {
		t.Errorf("%d events, the last %+v", len(events), events)
	}
}

func TestTablesForPeople(t *testing.T) {
	c := newCLI(t)
	c.house()
	for line, want := range map[string]string{
		"app list":                 "garage",
		"app show garage":          "86400 s",
		"key list --app garage":    "active",
		"device list --app garage": "offline",
		"device show CAM01":        "garage",
		"grant list --app garage":  "SUBJECT",
		"session list":             "SESSION",
		"events":                   "operator",
	} {
		if out := c.must(strings.Fields(line)...); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in %q", line, want, out)
		}
	}
}

func TestTablesDoNotObeyWhatStrangersWrote(t *testing.T) {
	var out bytes.Buffer
	sh := &shell{out: &out}
	if err := sh.table("A B", [][]string{{"\x1b[2Jx", "a\nb\tc\u009b"}}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\t") || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("table: %q", out.String())
	}
}

func TestSignsConnectTokensWithoutServer(t *testing.T) {
	c := newCLI(t)
	c.env = append(c.env, "TURNPIKE_ACCESS_ID=ak-1", "TURNPIKE_SECRET_KEY=secret-of-the-app", "TURNPIKE_DEVICE_SECRET_KEY=secret-of-the-device")
	r := c.typed("", "token", "connect", "--remote-id", "device://CAM01", "--sub", "user-17", "--ttl", "300")
	if r.code != exitDone {
		t.Fatal(r)
	}
	raw := strings.TrimSuffix(r.out, "\n")
	p, err := token.ParseConnect(raw)
	if err != nil {
		t.Fatalf("%v: %q", err, r.out)
	}
	claims, err := p.Verify(token.Secrets{App: "secret-of-the-app", Device: "secret-of-the-device"}, time.Now(), token.Policy{})
	if err != nil || claims.Subject != "user-17" || claims.DeviceID != "CAM01" || claims.KeyID != "ak-1" || claims.Expires.Sub(claims.Issued) != 5*time.Minute {
		t.Errorf("claims %+v, %v", claims, err)
	}
	flags := c.typed("", "token", "connect", "--access-id", "ak-2", "--remote-id", "CAM01", "--sub", "u")
	if p, err := token.ParseConnect(strings.TrimSpace(flags.out)); err != nil || p.KeyID != "ak-2" {
		t.Errorf("a flag does not win over the environment: %v %v", p, err)
	}
}

func TestSignsUserTokens(t *testing.T) {
	c := newCLI(t)
	r := c.typed("", "token", "user", "--access-id", "ak-1", "--secret-key", "secret-of-the-app", "--sub", "user-17", "--ttl", "1h")
	parsed, err := jwt.Parse(strings.TrimSpace(r.out), func(*jwt.Token) (any, error) { return []byte("secret-of-the-app"), nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired(), jwt.WithIssuer("ak-1"), jwt.WithSubject("user-17"))
	if err != nil || parsed.Header["kid"] != "ak-1" {
		t.Errorf("%v: %+v", err, parsed)
	}
}

func TestVerifiesAndRevokesTokens(t *testing.T) {
	c := newCLI(t)
	c.house()
	raw := strings.TrimSpace(c.must("token", "connect", "--app", "garage", "--remote-id", "CAM01", "--sub", "user-17"))
	var v verdict
	c.read(&v, "token", "verify", raw)
	if !v.Valid || v.Subject != "user-17" || v.Resource != "device:CAM01" {
		t.Errorf("verdict: %+v", v)
	}
	c.must("token", "revoke", "--app", "garage", "--id", v.TokenID)
	r := c.typed(raw+"\n", "--data", c.dir, "token", "verify", "-", "--json")
	if err := json.Unmarshal([]byte(r.out), &v); err != nil || r.code != exitRefused || v.Valid || v.Reason != "revoked" {
		t.Errorf("after revoking: exit code %d, %s", r.code, r.out)
	}
	other := strings.TrimSpace(c.must("token", "connect", "--app", "garage", "--remote-id", "CAM01", "--sub", "user-18"))
	c.must("token", "revoke", "--app", "garage", "--sub", "user-18")
	c.must("token", "revoke", raw)
	if r := c.run("token", "verify", other); r.code != exitRefused || !strings.Contains(r.out, "revoked") {
		t.Errorf("token of a revoked subject: exit code %d, %s", r.code, r.out)
	}
}
