package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestServesUntilItIsStopped(t *testing.T) {
	c := newCLI(t)
	p := c.serve()
	h := c.house()
	if h.App != "garage" {
		t.Errorf("made %+v", h)
	}
	info, err := os.Stat(filepath.Join(c.dir, "turnpike.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	if r := c.run("serve", "--http", "127.0.0.1:0", "--media-udp", "", "--media-tcp", ""); r.code != exitFailed {
		t.Errorf("a second server on the directory: exit code %d: %s", r.code, r.err)
	}
	p.stop()
	code := p.end()
	p.code <- code // for the clean-up
	if code != exitDone {
		t.Errorf("exit code %d: %s", code, &p.err)
	}
	if got := c.must("app", "list"); !strings.Contains(got, "garage") {
		t.Errorf("without the server, the directory has %q", got)
	}
}

func TestCompletesNamesWhenAServerRuns(t *testing.T) {
	c := newCLI(t)
	complete := func(args ...string) string {
		r := c.run(append([]string{"__complete"}, args...)...)
		return r.out
	}
	if got := complete("device", "show", ""); strings.Contains(got, "CAM01") || !strings.Contains(got, ":4") {
		t.Errorf("without a server: %q", got)
	}
	c.serve()
	c.house()
	for _, x := range []struct{ line, want string }{
		{"device show", "CAM01"},
		{"app show", "garage"},
		{"device list --app", "garage"},
		{"grant add --app garage --device", "CAM01"},
	} {
		if got := complete(append(strings.Fields(x.line), "")...); !strings.Contains(got, x.want+"\n") {
			t.Errorf("%s: %q", x.line, got)
		}
	}
	if got := complete("grant", "add", "--app", "other", "--device", ""); strings.Contains(got, "CAM01") {
		t.Errorf("devices of another app: %q", got)
	}
}

func TestDevicePlaysItsFilesOnce(t *testing.T) {
	c := newCLI(t)
	at := freeAddress(t)
	c.serve("--http", at)
	h := c.house()
	sound := filepath.Join(t.TempDir(), "short.alaw")
	if err := os.WriteFile(sound, make([]byte, 8000), 0o600); err != nil {
		t.Fatal(err)
	}
	p := c.start("device", "run", "--license", h.License, "--server", "http://"+at, "--audio", sound, "--client-id", "c-1", "--loop=false")
	if code := p.end(); code != exitDone {
		t.Errorf("exit code %d: %s", code, &p.err)
	}
	if !strings.Contains(p.err.String(), "online at") {
		t.Errorf("said %q", &p.err)
	}
}

func TestDeviceWithAWrongLicenseIsToldSo(t *testing.T) {
	c := newCLI(t)
	at := freeAddress(t)
	c.serve("--http", at)
	sound := filepath.Join(t.TempDir(), "short.alaw")
	if err := os.WriteFile(sound, make([]byte, 8000), 0o600); err != nil {
		t.Fatal(err)
	}
	r := c.run("device", "run", "--license", "CAM01,wrong-secret", "--server", "http://"+at, "--audio", sound)
	if r.code != exitRefused || !strings.Contains(r.err, "unknown or disabled") || strings.Contains(r.err, "wrong-secret") {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

func TestDemoComesBackWithTheSameDevice(t *testing.T) {
	c := newCLI(t)
	var licenses []string
	for range 2 {
		p := c.start("demo", "--http", "127.0.0.1:0", "--media-udp", "127.0.0.1:0", "--media-tcp", "")
		c.reachable(p)
		var d device
		eventually(t, "the demo device online", func() bool {
			r := c.run("device", "show", demoDevice, "--json")
			return r.code == exitDone && json.Unmarshal([]byte(r.out), &d) == nil && d.Online
		})
		if d.App != demoApp {
			t.Errorf("device: %+v", d)
		}
		page := regexp.MustCompile(`http://localhost:[0-9]+/watch/device/demo-camera#user=[\w.-]+`)
		if !page.MatchString(p.out.String()) || !strings.Contains(p.out.String(), "Ctrl-C") {
			t.Errorf("said %q", &p.out)
		}
		p.stop()
		if code := p.end(); code != exitDone {
			t.Errorf("exit code %d: %s", code, &p.err)
		}
		text, err := os.ReadFile(filepath.Join(c.dir, "demo.json"))
		if err != nil {
			t.Fatal(err)
		}
		licenses = append(licenses, string(text))
	}
	if licenses[0] != licenses[1] {
		t.Error("the second start made new secrets")
	}
}
