//go:build e2e

package test

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// get fetches an address and returns its status and body.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patient, Transport: &http.Transport{
		// The certificate is the server's own, which nobody has vouched for.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServerTellsHowItIs(t *testing.T) {
	n := startNode(t)
	for path, want := range map[string]string{
		"/healthz":         "ok",
		"/readyz":          "ready",
		"/metrics":         "turnpike_build{",
		"/openapi.json":    `"openapi":"3.1`,
		"/api/v1/about":    `"doors":["device","api"]`,
		"/":                "<title>",
		"/watch/device/C1": "<title>",
	} {
		if status, body := get(t, n.url+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d, without %q:\n%.300s", path, status, want, body)
		}
	}
	if status, body := get(t, n.url+"/nothing/here"); status != 404 || !strings.Contains(body, `"code":"not_found"`) {
		t.Errorf("an address that nothing claims: %d %s, want a problem with 404", status, body)
	}
}

func TestMetricsAreForTheirNetworksOnly(t *testing.T) {
	n := startNode(t, "--metrics-from", "192.0.2.0/24")
	if status, _ := get(t, n.url+"/metrics"); status != 404 {
		t.Errorf("GET /metrics from elsewhere: %d, want 404", status)
	}
}

func TestDevelopmentServerSpeaksHTTPS(t *testing.T) {
	addr := freeAddr(t)
	startNode(t, "--dev", "--https", addr)
	if status, body := get(t, "https://"+addr+"/healthz"); status != 200 {
		t.Errorf("GET /healthz over HTTPS: %d %s", status, body)
	}
}

func TestSecretsOfTheDataDirectoryAreTheOwnersAlone(t *testing.T) {
	n := startNode(t)
	for _, name := range []string{"master.key", "turnpike.sock", "turnpike.db"} {
		about, err := os.Stat(filepath.Join(n.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := about.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", name, mode)
		}
	}
}

func TestCommandsWorkWithoutAServer(t *testing.T) {
	n := startNode(t)
	n.kill(syscall.SIGTERM)
	h := n.newHouse("garage", "CAM01")
	if h.AccessID == "" || h.SecretKey == "" || h.License != "CAM01,"+h.DeviceKey {
		t.Errorf("the commands answered %+v", h)
	}
	h.startDevice(n.again())
}

func TestLogsHoldNoSecrets(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	token := h.token(n)
	v := newViewer(t, n.url)
	v.connect(t, "CAM01", token)
	v.playsOn(t)
	whep(t, n.url, "CAM01", token, offer(t))
	events := n.cli("events", "--json")
	n.kill(syscall.SIGTERM)
	log := n.log.String()
	for what, secret := range map[string]string{
		"the app's secret": h.SecretKey, "the device's secret": h.DeviceKey, "the token": token,
		"the token's signature": token[strings.LastIndex(token, ".")+1:],
	} {
		if strings.Contains(log, secret) {
			t.Errorf("%s is in the log", what)
		}
		if strings.Contains(events, secret) {
			t.Errorf("%s is in the audit trail", what)
		}
	}
	if !strings.Contains(events, `"spent"`) || !strings.Contains(events, `"admitted"`) {
		t.Errorf("the audit trail does not tell what happened:\n%s", events)
	}
}

func TestDrainServesWhoIsUnderWay(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	device := h.startDevice(n)
	device.Process.Signal(syscall.SIGSTOP) // it will not answer for a while
	answered := make(chan int, 1)
	go func() {
		status, _, _ := whep(t, n.url, "CAM01", h.token(n), offer(t))
		answered <- status
	}()
	eventually(t, "the caller to be let in", func() bool { return strings.Contains(n.cli("session", "list"), "user-17") })
	n.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, "the server to say that it drains", func() bool {
		status, _ := get(t, n.url+"/readyz")
		return status == http.StatusServiceUnavailable
	})
	if status, p, header := whep(t, n.url, "CAM01", "v1.x.y", offer(t)); status != 503 || p.Code != "draining" || header.Get("Retry-After") == "" {
		t.Errorf("a new caller was answered %d %q, want 503 draining with Retry-After", status, p.Code)
	}
	device.Process.Signal(syscall.SIGCONT)
	if status := <-answered; status != http.StatusCreated {
		t.Errorf("the caller under way was answered %d, want 201", status)
	}
	select {
	case <-n.gone:
		if n.code != 0 {
			t.Errorf("the server ended with %d, want 0", n.code)
		}
	case <-time.After(patient):
		t.Error("the server goes on")
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	n := startNode(t, "--drain", "5m")
	held, err := http.NewRequest(http.MethodPost, n.url+"/whep/device/CAM01", neverEnding{})
	if err != nil {
		t.Fatal(err)
	}
	held.Header.Set("Authorization", "Bearer v1.x.y")
	held.Header.Set("Content-Type", "application/sdp")
	go http.DefaultClient.Do(held) // a request that a drain would wait for
	time.Sleep(200 * time.Millisecond)
	n.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(200 * time.Millisecond)
	n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.gone:
	case <-time.After(5 * time.Second):
		t.Error("the server goes on after the second signal")
	}
}

// neverEnding is a body that never ends.
type neverEnding struct{}

func (neverEnding) Read(b []byte) (int, error) {
	time.Sleep(50 * time.Millisecond)
	return copy(b, "a"), nil
}

func TestMisspeltSettingNamesTheNearest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "turnpike.yaml")
	if err := os.WriteFile(file, []byte("media:\n  upd: ':1'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary(t), "serve", "--config", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), `"media.udp"`) {
		t.Errorf("%v\n%s", err, out)
	}
}
