package client

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

// packets makes RTP of the first n pictures of the demo clip.
func packets(t testing.TB, n int) []*rtp.Packet {
	t.Helper()
	b, err := os.ReadFile("../cmd/turnpike/demo/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	units, err := media.AccessUnits(b)
	if err != nil {
		t.Fatal(err)
	}
	var all []*rtp.Packet
	seq, payloader := uint16(65500), new(codecs.H264Payloader)
	for i, u := range units[:n] {
		parts := payloader.Payload(1200, u)
		for j, p := range parts {
			all = append(all, &rtp.Packet{Payload: p, Header: rtp.Header{
				SequenceNumber: seq, Timestamp: uint32(i*3600) - 7200, Marker: j == len(parts)-1,
			}})
			seq++
		}
	}
	return all
}

func at(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func TestPutsPacketsInOrder(t *testing.T) {
	all := packets(t, 60)
	random := rand.New(rand.NewPCG(1, 2))
	for i := 5; i+4 < len(all); i += 4 { // the first ones say where the stream begins
		random.Shuffle(4, func(a, b int) { all[i+a], all[i+b] = all[i+b], all[i+a] })
	}
	all = append(all, all[len(all)-1]) // and a duplicate
	a := newAssembler(media.H264)
	var frames []frame
	for i, p := range all {
		frames = append(frames, a.push(p, at(i))...)
	}
	if len(frames) != 60 {
		t.Fatalf("%d frames, want 60", len(frames))
	}
	for i, f := range frames {
		if f.gap || f.key != (i%50 == 0) || f.at != time.Duration(i)*40*time.Millisecond {
			t.Fatalf("frame %d: gap %v, key %v, at %v", i, f.gap, f.key, f.at)
		}
	}
}

func TestGoesOnAtAKeyFrameAfterALoss(t *testing.T) {
	all := packets(t, 120)
	a := newAssembler(media.H264)
	var frames []frame
	now := 0
	for i, p := range all {
		now += 5
		if i == len(all)/3 || i == len(all)/3+9 { // twice
			continue
		}
		frames = append(frames, a.push(p, at(now))...)
	}
	gaps := 0
	for i, f := range frames {
		if f.gap {
			gaps++
			if !f.key {
				t.Errorf("after the gap comes no key frame but %d", i)
			}
		} else if i > 0 && f.at-frames[i-1].at != 40*time.Millisecond {
			t.Errorf("frame %d follows after %v and says nothing of a gap", i, f.at-frames[i-1].at)
		}
	}
	if gaps != 1 || frames[len(frames)-1].at != 119*40*time.Millisecond {
		t.Errorf("%d gaps, last frame at %v", gaps, frames[len(frames)-1].at)
	}
}

func TestLatePacketIsStillGood(t *testing.T) {
	all := packets(t, 30)
	late := all[10]
	a := newAssembler(media.H264)
	var frames []frame
	for i, p := range slices.Delete(slices.Clone(all), 10, 11) {
		frames = append(frames, a.push(p, at(i))...)
		if i == 40 {
			frames = append(frames, a.push(late, at(300))...)
		}
	}
	if len(frames) != 30 {
		t.Errorf("%d frames, want 30", len(frames))
	}
}

func TestSoundWaitsShortAndSaysWhatIsMissing(t *testing.T) {
	a := newAssembler(media.ALaw)
	var frames []frame
	for i := range 100 {
		if i >= 50 && i < 55 {
			continue
		}
		frames = append(frames, a.push(&rtp.Packet{Payload: make([]byte, 160), Header: rtp.Header{
			SequenceNumber: uint16(i), Timestamp: uint32(i * 160),
		}}, at(i*20))...)
		if i == 58 && len(frames) < 53 {
			t.Errorf("%d pieces after 80 ms behind the gap", len(frames))
		}
	}
	if len(frames) != 95 || !frames[50].gap || frames[51].gap || frames[50].at != 55*20*time.Millisecond {
		t.Errorf("%d pieces, gap %v at %v", len(frames), frames[50].gap, frames[50].at)
	}
}

func TestFullQueueLosesSoundOldestFirstAndVideoUpToAKeyFrame(t *testing.T) {
	q := newQueue(media.ALaw)
	for i := range soundFrames + 10 {
		q.put(frame{codec: media.ALaw, at: time.Duration(i), data: []byte{1}})
	}
	if f := <-q.frames; f.at != 10 || q.bytes.Load() != soundFrames {
		t.Errorf("oldest is %d, %d bytes", f.at, q.bytes.Load())
	}
	q = newQueue(media.H264)
	for i := range queueFrames + 10 {
		q.put(frame{codec: media.H264, at: time.Duration(i), key: i == 0})
	}
	if f := <-q.frames; f.at != 0 {
		t.Errorf("oldest is %d", f.at)
	}
	q.put(frame{codec: media.H264, at: 5000})
	q.put(frame{codec: media.H264, at: 5001, key: true})
	var last frame
	for len(q.frames) > 0 {
		last = <-q.frames
	}
	if last.at != 5001 || !last.gap {
		t.Errorf("last is %d, gap %v", last.at, last.gap)
	}
}

func FuzzAssembler(f *testing.F) {
	var seed []byte
	for _, p := range packets(f, 3) {
		seed = binary.BigEndian.AppendUint16(seed, p.SequenceNumber)
		seed = append(seed, byte(p.Timestamp>>8), byte(min(len(p.Payload), 200)))
		seed = append(seed, p.Payload[:min(len(p.Payload), 200)]...)
	}
	f.Add(seed, true)
	f.Add([]byte{0, 1, 0, 2, 0x7c, 0x85, 0x80, 1, 0, 3, 0x18, 0, 9}, true)
	f.Add([]byte{0, 1, 0, 1, 9, 255, 0, 0, 1, 9, 0, 2, 0, 1, 9}, false)
	f.Fuzz(func(t *testing.T, b []byte, video bool) {
		codec := media.ALaw
		if video {
			codec = media.H264
		}
		a := newAssembler(codec)
		now := 0
		for len(b) >= 4 {
			n := min(int(b[3]), len(b)-4)
			p := &rtp.Packet{Payload: b[4 : 4+n], Header: rtp.Header{
				SequenceNumber: binary.BigEndian.Uint16(b), Timestamp: uint32(b[2]) << 8, Marker: b[3]&1 == 1,
			}}
			b, now = b[4+n:], now+50
			for _, fr := range a.push(p, at(now)) {
				if len(fr.data) == 0 || fr.gap && video && !fr.key {
					t.Fatalf("bad frame: %+v", fr)
				}
			}
		}
	})
}

func TestReadsLinkHeaders(t *testing.T) {
	got := links([]string{
		`<stun:192.0.2.1:5082>; rel="ice-server"`,
		`<turn:192.0.2.1:3478?transport=udp>; rel="ice-server"; username="1700:u,x"; credential="a>b;c"; credential-type="password", <turns:h:5349>;rel=ice-server`,
		`<https://example.com>; rel="ice-server"`, `<stun:other>; rel="next"`, `nonsense`, `<stun:unclosed`,
	})
	want := []ICEServer{
		{URLs: []string{"stun:192.0.2.1:5082"}},
		{URLs: []string{"turn:192.0.2.1:3478?transport=udp"}, Username: "1700:u,x", Credential: "a>b;c"},
		{URLs: []string{"turns:h:5349"}},
	}
	if !slices.EqualFunc(got, want, func(a, b ICEServer) bool {
		return slices.Equal(a.URLs, b.URLs) && a.Username == b.Username && a.Credential == b.Credential
	}) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzLinks(f *testing.F) {
	f.Add(`<stun:h>; rel="ice-server", <turn:h>; username="u"; rel=ice-server`)
	f.Add(`<a>;;;=;="`)
	f.Add(`<stun>; rel="ice-server"`)
	f.Fuzz(func(t *testing.T, h string) {
		for _, s := range links([]string{h}) {
			if len(s.URLs) != 1 || !strings.Contains(s.URLs[0], ":") {
				t.Fatalf("bad server %+v", s)
			}
		}
	})
}

func FuzzProblem(f *testing.F) {
	f.Add([]byte(`{"code":"token_refused","detail":"x"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if e := problem(401, body); e.Code == "" || len(e.Code) > 64 || len(e.Detail) > 1024 || !e.final() {
			t.Fatalf("bad error %+v", e)
		}
	})
}

func FuzzFragmentAndAnswers(f *testing.F) {
	f.Add("a=ice-ufrag:x\r\na=ice-pwd:y\r\na=mid:0\r\n", "candidate:1 1 udp 1 192.0.2.1 1 typ host", "stream-7")
	f.Fuzz(func(t *testing.T, sdp, candidate, msid string) {
		if !strings.HasSuffix(fragment(sdp, []string{candidate}), "a="+candidate+"\r\n") {
			t.Fatal("the candidate is missing")
		}
		carries(sdp, "0")
		if id, ok := streamOf(msid); ok && !strings.HasPrefix(msid, "stream-") {
			t.Fatalf("%q is stream %d", msid, id)
		}
	})
}

func TestErrorTellsFinalFromPassing(t *testing.T) {
	for e, want := range map[Error]bool{
		{Status: 401, Code: "token_refused"}: true, {Status: 403, Code: "forbidden"}: true, {Status: 400, Code: "bad_request"}: true,
		{Status: 404, Code: "not_found"}: true, {Status: 404, Code: "device_offline"}: false, {Status: 429}: false,
		{Status: 503}: false, {Status: 504}: false,
	} {
		if e.final() != want {
			t.Errorf("%v: final is %v", &e, e.final())
		}
	}
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "999999": time.Hour} {
		if got := retryAfter(http.Header{"Retry-After": {text}}); got != want {
			t.Errorf("Retry-After %q is %v, want %v", text, got, want)
		}
	}
	if got := (&Error{Status: 401, Code: "token_refused", Detail: "get a new one"}).Error(); !bytes.Contains([]byte(got), []byte("token_refused")) {
		t.Errorf("got %q", got)
	}
}
