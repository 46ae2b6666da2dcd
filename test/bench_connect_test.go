//go:build bench

package test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/client"
	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/token"
)

// connectAim is the most that half of the connections may take, in milliseconds.
const connectAim = 150.0

// way is what one connection took, in milliseconds from the call of connect.
type way struct {
	Connected float64 `json:"connected"` // connect says that media can flow
	Frame     float64 `json:"frame"`     // the first picture
}

// TestBenchConnect measures how long a viewer waits for the first picture, from the
// call of connect with a fresh token. Server, device and viewer are three processes on
// one machine; the connections come one after the other, each with its own token,
// offer, ICE, DTLS and, in Go, TCP connection to the server.
func TestBenchConnect(t *testing.T) {
	count := 100
	if quick() {
		count = 20
	}
	r := newReport(t, "connect", "client", "connections", "connected, p50", "first picture, p50", "p99", "min–max", "aim for p50", "")
	n := startNode(t, "--log-level", "info")
	h := n.newHouse("bench", "CAMERA")
	h.startDevice(n)
	inGo := goClient(t, n, h, count)
	inChromium := chromiumClient(t, n, h, count)

	c := chart{title: "From the call of connect to the first picture", x: "milliseconds", y: "connections, per cent", top: 100,
		limits: []limit{{label: "aim: p50 of at most 150 ms", at: connectAim, upright: true}}}
	for _, one := range []struct {
		client string
		ways   []way
		aim    bool
	}{{"Go: frame complete and decodable", inGo, true}, {"Chromium: frame decoded and presented", inChromium, false}} {
		var connected, frames []float64
		for _, w := range one.ways {
			connected, frames = append(connected, w.Connected), append(frames, w.Frame)
		}
		slices.Sort(connected)
		slices.Sort(frames)
		p50 := percentile(frames, 50)
		aim, met := "", "recorded"
		if one.aim {
			aim, met = fmt.Sprintf("≤ %g ms", connectAim), verdict(p50 <= connectAim)
		}
		r.row(one.client, number(float64(len(frames))), fmt.Sprintf("%.0f ms", percentile(connected, 50)),
			fmt.Sprintf("**%.0f ms**", p50), fmt.Sprintf("%.0f ms", percentile(frames, 99)),
			fmt.Sprintf("%.0f–%.0f ms", frames[0], frames[len(frames)-1]), aim, met)
		name, _, _ := strings.Cut(one.client, ":")
		c.curves = append(c.curves, distribution(name, frames))
	}
	r.charts = []namedChart{{"connect", c}}
	r.write(t)
}

// freshToken signs a connect token, as a customer's back end does.
func (h house) freshToken(t *testing.T) string {
	t.Helper()
	now := time.Now()
	raw, err := token.SignConnect(token.Connect{Subject: "user-17", DeviceID: h.DeviceID, KeyID: h.AccessID,
		Issued: now, Expires: now.Add(5 * time.Minute), Nonce: token.NewNonce()},
		token.Secrets{App: h.SecretKey, Device: h.DeviceKey})
	must(t, err)
	return raw
}

// goClient connects with package client, again and again.
func goClient(t *testing.T, n *node, h house, count int) []way {
	t.Helper()
	var ways []way
	for i := range count {
		w, picture := connectOnce(t, n, h)
		if !media.Look(picture).Starts() {
			t.Fatalf("connection %d: the first picture is not one that decoding can begin with", i+1)
		}
		if i == 0 {
			decode(t, picture)
		}
		ways = append(ways, w)
		if (i+1)%10 == 0 {
			progress("connect, Go: %d of %d, the last in %.0f ms", i+1, count, w.Frame)
		}
	}
	return ways
}

func connectOnce(t *testing.T, n *node, h house) (way, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	transport := &http.Transport{} // of its own, so that no connection to the server is there already
	defer transport.CloseIdleConnections()
	conn, err := client.New(client.Config{Server: n.url, NoResume: true, HTTP: &http.Client{Transport: transport}})
	must(t, err)
	defer conn.Close()
	type arrival struct {
		at      time.Time
		picture []byte
	}
	first := make(chan arrival, 1)
	must(t, conn.Attach(0, client.VideoOutput(func(f client.VideoFrame) {
		select {
		case first <- arrival{time.Now(), f.Data}:
		default:
		}
	})))
	must(t, conn.Attach(1, client.AudioOutput(func(client.AudioFrame) {})))
	raw := h.freshToken(t)

	begin := time.Now()
	must(t, conn.Connect(ctx, h.DeviceID, raw))
	connected := time.Since(begin)
	select {
	case a := <-first:
		return way{milliseconds(connected), milliseconds(a.at.Sub(begin))}, a.picture
	case <-ctx.Done():
		t.Fatal("no picture comes")
	}
	return way{}, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// decode has ffmpeg make a picture of the frame, alone.
func decode(t *testing.T, picture []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ffmpeg", "-v", "error", "-xerror", "-f", "h264", "-i", "-", "-frames:v", "1", "-f", "rawvideo", "-")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(picture), &stderr
	if out, err := cmd.Output(); err != nil || len(out) == 0 {
		t.Fatalf("ffmpeg makes no picture of the first frame: %v\n%s", err, &stderr)
	}
}

// chromiumClient connects with the TypeScript client in headless Chromium
// (test/browser/connect.bench.ts), again and again.
func chromiumClient(t *testing.T, n *node, h house, count int) []way {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	const script = "browser/.build/connect.bench.mjs" // beside the packages it needs
	pack := exec.CommandContext(ctx, "npx", "--no-install", "esbuild", "browser/connect.bench.ts", "--bundle", "--platform=node",
		"--format=esm", "--packages=external", "--log-level=warning", "--outfile="+script)
	if out, err := pack.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the browser's part: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(ctx, "node", script, n.url, h.DeviceID)
	tokens, err := cmd.StdinPipe() // not an argument: those are for everybody to see
	must(t, err)
	results, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	lines := bufio.NewScanner(results)
	var ways []way
	for i := range count {
		fmt.Fprintln(tokens, h.freshToken(t))
		if !lines.Scan() {
			break
		}
		var w way
		unmarshal(t, lines.Text(), &w)
		ways = append(ways, w)
		if (i+1)%10 == 0 {
			progress("connect, Chromium: %d of %d, the last in %.0f ms", i+1, count, w.Frame)
		}
	}
	tokens.Close()
	if err := cmd.Wait(); err != nil || len(ways) != count {
		t.Fatalf("Chromium made %d of %d connections: %v", len(ways), count, err)
	}
	return ways
}
