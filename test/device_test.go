//go:build e2e

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/internal/bus/bustest"
	"github.com/turnpike-rtc/turnpike/internal/store/storetest"
)

// viewer is a client that counts what it gets.
type viewer struct {
	*client.Conn
	video, audio atomic.Int64
	lost         chan error // one value when it is disconnected
}

func newViewer(t testing.TB, url string) *viewer {
	t.Helper()
	v := &viewer{lost: make(chan error, 1)}
	conn, err := client.New(client.Config{Server: url, NoResume: true, OnState: func(s client.State, cause error) {
		if s == client.Disconnected {
			select {
			case v.lost <- cause:
			default:
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	v.Conn = conn
	conn.Attach(0, client.VideoOutput(func(client.VideoFrame) { v.video.Add(1) }))
	conn.Attach(1, client.AudioOutput(func(client.AudioFrame) { v.audio.Add(1) }))
	t.Cleanup(func() { conn.Close() })
	return v
}

func (v *viewer) connect(t testing.TB, device, token string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	if err := v.Connect(ctx, device, token); err != nil {
		t.Fatal(err)
	}
}

func (v *viewer) playsOn(t testing.TB) {
	t.Helper()
	video, audio := v.video.Load(), v.audio.Load()
	eventually(t, "video and audio to flow", func() bool {
		return v.video.Load() > video+5 && v.audio.Load() > audio+5
	})
}

// offer is an SDP offer for one video and one audio stream.
func offer(t testing.TB) string {
	t.Helper()
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		init := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := pc.AddTransceiverFromKind(kind, init); err != nil {
			t.Fatal(err)
		}
	}
	o, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(o); err != nil {
		t.Fatal(err)
	}
	<-gathered
	return pc.LocalDescription().SDP
}

func TestTokenOpensADeviceOnceAndOnlyIt(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	n.cli("device", "add", "--app", "garage", "CAM02")
	h.startDevice(n)
	token := h.token(n)

	if out := n.cli("token", "verify", token); !strings.Contains(out, "yes") {
		t.Errorf("a fresh token is said to be no good:\n%s", out)
	}
	v := newViewer(t, n.url)
	v.connect(t, "CAM01", token)
	v.playsOn(t)
	if out, err := n.tryCLI("token", "verify", token); err == nil || !strings.Contains(out, "spent") {
		t.Errorf("a spent token is not said to be spent: %v\n%s", err, out)
	}

	for name, test := range map[string]struct {
		device, token string
		status        int
		code          string
	}{
		"spent":          {"CAM01", token, 401, "token_refused"},
		"none":           {"CAM01", "", 401, "token_refused"},
		"nonsense":       {"CAM01", "nonsense", 401, "token_refused"},
		"forged":         {"CAM01", h.token(n)[:60] + "AAAA" + h.token(n)[64:], 401, "token_refused"},
		"foreign device": {"CAM02", h.token(n), 403, "forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			status, p, _ := whep(t, n.url, test.device, test.token, offer(t))
			if status != test.status || p.Code != test.code {
				t.Errorf("answered %d %q, want %d %q", status, p.Code, test.status, test.code)
			}
		})
	}
	v.playsOn(t)
}

func TestOfflineDeviceSpendsNothing(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	token := h.token(n)
	if status, p, _ := whep(t, n.url, "CAM01", token, offer(t)); status != 404 || p.Code != "device_offline" {
		t.Fatalf("answered %d %q, want 404 device_offline", status, p.Code)
	}
	h.startDevice(n)
	v := newViewer(t, n.url)
	v.connect(t, "CAM01", token)
	v.playsOn(t)
}

func TestForeignClientPlaysTheDevice(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patient)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "whep_aiortc.py", n.url+"/whep/device/CAM01", h.token(n), "6")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("aiortc: %v\n%s", err, stderr.String())
	}
	var seen struct {
		Status       int     `json:"status"`
		VideoFrames  int     `json:"video_frames"`
		Width        int     `json:"width"`
		Height       int     `json:"height"`
		AudioSamples int     `json:"audio_samples"`
		ToneHz       float64 `json:"tone_hz"`
	}
	unmarshal(t, string(out), &seen)
	t.Logf("aiortc saw %s", strings.TrimSpace(string(out)))
	if seen.Status != http.StatusCreated || seen.VideoFrames < 60 || seen.Width != 640 || seen.Height != 360 {
		t.Errorf("video: %+v, want 201 and at least 60 frames of 640x360", seen)
	}
	if seen.AudioSamples < 20000 || seen.ToneHz < 430 || seen.ToneHz > 450 {
		t.Errorf("audio: %+v, want the 440 Hz tone", seen)
	}
}

func TestEndingReachesTheViewerWithinASecond(t *testing.T) {
	for name, end := range map[string]func(n *node, h house, v *viewer, token string){
		"session": func(n *node, _ house, _ *viewer, _ string) { n.cli("session", "end", n.onlySession()) },
		"token":   func(n *node, _ house, _ *viewer, token string) { n.cli("token", "revoke", token) },
		"subject": func(n *node, _ house, _ *viewer, _ string) {
			n.cli("token", "revoke", "--app", "garage", "--subject", "user-17")
		},
		"key":    func(n *node, h house, _ *viewer, _ string) { n.cli("key", "revoke", h.AccessID) },
		"device": func(n *node, _ house, _ *viewer, _ string) { n.cli("device", "disable", "CAM01") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t)
			h := n.newHouse("garage", "CAM01")
			h.startDevice(n)
			token := h.token(n)
			v := newViewer(t, n.url)
			v.connect(t, "CAM01", token)
			v.playsOn(t)
			end(n, h, v, token)
			said := time.Now()
			select {
			case <-v.lost:
				t.Logf("the viewer was cut off %v after the command had returned", time.Since(said).Round(time.Millisecond))
			case <-time.After(patient):
				t.Fatal("the viewer still plays")
			}
			eventually(t, "the session to leave the list", func() bool {
				out, err := n.tryCLI("session", "list", "--json")
				return err == nil && !strings.Contains(out, "user-17")
			})
		})
	}
}

func TestUserTokenAsksForAConnectToken(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	user := strings.TrimSpace(n.cli("token", "user", "--access-id", h.AccessID, "--secret-key", h.SecretKey, "--sub", "ann"))
	ask := func() (int, map[string]any) {
		req, _ := http.NewRequest(http.MethodGet, n.url+"/connect-token?peer_id=device://CAM01", nil)
		req.Header.Set("Authorization", "Bearer "+user)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body map[string]any
		json.NewDecoder(resp.Body).Decode(&body)
		return resp.StatusCode, body
	}
	if status, body := ask(); status != 403 || body["code"] != "forbidden" {
		t.Fatalf("without a grant: %d %v, want 403 forbidden", status, body)
	}
	n.cli("grant", "add", "--app", "garage", "--subject", "ann", "--device", "CAM01")
	status, body := ask()
	if status != 200 || body["peer_id"] != "device://CAM01" || body["remote_id"] != "device://CAM01" || body["expires_in"] != float64(300) {
		t.Fatalf("with a grant: %d %v", status, body)
	}
	v := newViewer(t, n.url)
	v.connect(t, "device://CAM01", body["token"].(string))
	v.playsOn(t)
}

// readmeScript returns the shell block that follows a marker in the README.
func readmeScript(t *testing.T, marker string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)<!-- test: " + marker + " -->\n```sh\n(.*?)```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("README.md has no block %q", marker)
	}
	return string(m[1])
}

func TestReadmeSignsWithOpensslAndConnectsWithCurl(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/offer.sdp", []byte(offer(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "set -eu\n" + readmeScript(t, "sign") + strings.ReplaceAll(readmeScript(t, "connect"), "http://localhost:5080", n.url)
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ACCESS_ID="+h.AccessID, "SECRET_KEY="+h.SecretKey, "DEVICE_SECRET_KEY="+h.DeviceKey)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "201 Created") || !strings.Contains(string(out), "m=video") {
		t.Errorf("the README's commands did not connect:\n%s", out)
	}
}

// twoNodes are two servers on one database and one bus.
func twoNodes(t *testing.T) (a, b *node) {
	t.Helper()
	dsn := storetest.Postgres(t).DSN
	nats := bustest.External(t).URL
	t.Setenv("TURNPIKE_MASTER_KEY", strings.Repeat("5a", 32))
	a = startNode(t, "--store", dsn, "--bus", nats)
	b = startNode(t, "--store", dsn, "--bus", nats)
	return a, b
}

func TestClientOnOneNodeDeviceOnTheOther(t *testing.T) {
	a, b := twoNodes(t)
	h := a.newHouse("garage", "CAM01")
	h.startDevice(b)
	v := newViewer(t, a.url)
	token := h.token(a)
	v.connect(t, "CAM01", token)
	v.playsOn(t)
	if status, p, _ := whep(t, b.url, "CAM01", token, offer(t)); status != 401 {
		t.Errorf("the other node admitted a spent token: %d %q", status, p.Code)
	}
	b.cli("session", "end", b.onlySession())
	select {
	case <-v.lost:
	case <-time.After(patient):
		t.Error("ending on one node did not reach a session on the other")
	}
}

// present offers one token from many clients at once and returns how many were let in.
func present(t *testing.T, n int, token string, urls ...string) int {
	t.Helper()
	sdp := offer(t)
	var admitted atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			switch status, p, _ := whep(t, urls[i%len(urls)], "CAM01", token, sdp); status {
			case http.StatusCreated:
				admitted.Add(1)
			case http.StatusUnauthorized, http.StatusTooManyRequests:
			default:
				t.Errorf("answered %d %q %s", status, p.Code, p.Detail)
			}
		})
	}
	close(start)
	all.Wait()
	return int(admitted.Load())
}

func TestThousandPresentationsAdmitOne(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	if got := present(t, 1000, h.token(n), n.url); got != 1 {
		t.Errorf("%d were admitted, want 1", got)
	}
}

func TestThousandPresentationsOnTwoNodesAdmitOne(t *testing.T) {
	a, b := twoNodes(t)
	h := a.newHouse("garage", "CAM01")
	h.startDevice(b)
	if got := present(t, 1000, h.token(a), a.url, b.url); got != 1 {
		t.Errorf("%d were admitted, want 1", got)
	}
}

func TestKilledServerForgetsNoSpentToken(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	var mu sync.Mutex
	var spent []string
	var all sync.WaitGroup
	tokens := make([][]string, 4)
	for i := range tokens {
		for range 8 {
			tokens[i] = append(tokens[i], h.token(n))
		}
	}
	sdp := offer(t)
	for _, mine := range tokens {
		all.Go(func() {
			for _, token := range mine {
				if status, _, _ := whep(t, n.url, "CAM01", token, sdp); status == http.StatusCreated {
					mu.Lock()
					spent = append(spent, token)
					mu.Unlock()
				}
			}
		})
	}
	eventually(t, "some admissions", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(spent) >= 4
	})
	n.kill(syscall.SIGKILL)
	all.Wait()

	again := n.again()
	h.waitOnline(again)
	for _, token := range spent {
		if status, p, _ := whep(t, again.url, "CAM01", token, sdp); status != 401 && status != 429 {
			t.Errorf("a spent token was answered %d %q after the crash", status, p.Code)
		}
	}
	t.Logf("%d spent tokens stayed spent", len(spent))
}

func TestMediaOutlivesARestartOfTheServer(t *testing.T) {
	n := startNode(t)
	h := n.newHouse("garage", "CAM01")
	h.startDevice(n)
	v := newViewer(t, n.url)
	v.connect(t, "CAM01", h.token(n))
	v.playsOn(t)
	session := n.onlySession()

	n.kill(syscall.SIGTERM)
	if n.code != 0 {
		t.Errorf("the server ended with %d on SIGTERM, want 0", n.code)
	}
	v.playsOn(t)

	again := n.again()
	h.waitOnline(again)
	v.playsOn(t)
	eventually(t, "the session to be taken up", func() bool {
		return strings.Contains(again.cli("session", "list", "--json"), session)
	})
	again.cli("session", "end", session)
	select {
	case <-v.lost:
	case <-time.After(patient):
		t.Error("a session that was taken up could not be ended")
	}
}

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }
