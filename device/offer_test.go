package device

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

func chromium(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/chromium.sdp")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func offline(t *testing.T, streams ...Stream) *Device {
	t.Helper()
	d, err := New(Config{Server: "http://127.0.0.1:1", License: "DEVICE,a-long-secret", ClientID: "x", Streams: streams})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// answer lets a device answer an offer and returns the answer's sections, the first
// being the session part.
func answer(t *testing.T, d *Device, offer string, wanted *signal.Wanted) ([]string, error) {
	t.Helper()
	v := newViewer(d, "session", "subject")
	defer v.release()
	text, err := v.accept(&signal.Offer{Session: "session", SDP: offer, Streams: wanted}, nil)
	if err != nil {
		return nil, err
	}
	return strings.Split(text, "\r\nm="), nil
}

func TestAnswersABrowser(t *testing.T) {
	d := offline(t, Stream{0, H264}, Stream{1, ALaw})
	got, err := answer(t, d, chromium(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d sections, want video, audio and application", len(got)-1)
	}
	for i, lines := range map[int][]string{
		1: {"video 9 UDP/TLS/RTP/SAVPF 109\r\n", "a=setup:active", "a=sendonly", "a=msid:stream-0 video-0", "a=rtpmap:109 H264/90000",
			"packetization-mode=1;profile-level-id=42e01f", "a=rtcp-fb:109 nack pli", "a=rtcp-fb:109 transport-cc",
			"transport-wide-cc", "a=candidate:", "a=end-of-candidates"},
		2: {"audio 9 UDP/TLS/RTP/SAVPF 8\r\n", "a=setup:active", "a=sendonly", "a=msid:stream-1 audio-1"},
		3: {"application ", "a=setup:active", "a=sctp-port:5000"},
	} {
		for _, line := range lines {
			if !strings.Contains(got[i], line) {
				t.Errorf("section %d lacks %q:\n%s", i, line, got[i])
			}
		}
	}
}

func TestChoosesStreams(t *testing.T) {
	all := []Stream{{0, H264}, {1, ALaw}, {5, ALaw16}, {7, H264}}
	for _, c := range []struct {
		name         string
		wanted       *signal.Wanted
		video, audio string // in the answer's sections
	}{
		{"the lowest", nil, "a=msid:stream-0 ", "a=msid:stream-1 "},
		{"those asked for", &signal.Wanted{Video: []int{7}, Audio: []int{5}}, "a=msid:stream-7 ", "a=msid:stream-5 "},
		{"the lowest of the other kind", &signal.Wanted{Video: []int{7}}, "a=msid:stream-7 ", "a=msid:stream-1 "},
		{"none for one that is not there", &signal.Wanted{Video: []int{3}}, "a=inactive", "a=msid:stream-1 "},
		{"none for one of another kind", &signal.Wanted{Audio: []int{7}}, "a=msid:stream-0 ", "a=inactive"},
		{"G.722 for wide sound", &signal.Wanted{Audio: []int{5}}, "a=msid:stream-0 ", "a=rtpmap:9 G722/8000"},
	} {
		got, err := answer(t, offline(t, all...), chromium(t), c.wanted)
		if err != nil || len(got) != 4 || !strings.Contains(got[1], c.video) || !strings.Contains(got[2], c.audio) {
			t.Errorf("%s: %v\n%s", c.name, err, strings.Join(got, "\r\nm="))
		}
	}
}

func TestKeepsTheOrderOfSectionsAroundAnEmptyOne(t *testing.T) {
	parts := strings.Split(chromium(t), "m=")
	more := strings.Replace(parts[1], "a=mid:0", "a=mid:3", 1)
	third := strings.Replace(parts[1], "a=mid:0", "a=mid:4", 1)
	offer := strings.Replace(strings.Join([]string{parts[0], parts[1], more, third}, "m="), "BUNDLE 0 1 2", "BUNDLE 0 3 4", 1)
	got, err := answer(t, offline(t, Stream{0, H264}, Stream{7, H264}), offer, &signal.Wanted{Video: []int{7, 99, 0}})
	if err != nil || len(got) != 4 {
		t.Fatalf("%v: %d sections", err, len(got))
	}
	for i, line := range []string{"", "a=msid:stream-7 ", "a=inactive", "a=msid:stream-0 "} {
		if !strings.Contains(got[i], line) {
			t.Errorf("section %d lacks %q:\n%s", i, line, got[i])
		}
	}
	if strings.Contains(got[2], "a=msid:") {
		t.Errorf("the empty section has an msid:\n%s", got[2])
	}
}

func TestRefusesWhatItCannotAnswer(t *testing.T) {
	good := chromium(t)
	video := strings.Split(good, "m=")[0] + "m=" + strings.Split(good, "m=")[1]
	for _, c := range []struct{ name, offer, code string }{
		{"nothing", "", "bad_offer"},
		{"no SDP", "hello", "bad_offer"},
		{"no sections", strings.Split(good, "m=")[0], "bad_offer"},
		{"no mid", strings.ReplaceAll(good, "a=mid:0\r\n", ""), "bad_offer"},
		{"the same mid twice", strings.ReplaceAll(good, "a=mid:1\r\n", "a=mid:0\r\n"), "bad_offer"},
		{"no fingerprint", strings.ReplaceAll(good, "a=fingerprint", "a=nothing"), "bad_offer"},
		{"no ICE credentials", strings.ReplaceAll(good, "a=ice-", "a=not-"), "bad_offer"},
		{"many sections", strings.Split(good, "m=")[0] + strings.Repeat("m="+strings.Split(good, "m=")[1], 40), "bad_offer"},
		{"no H.264", strings.ReplaceAll(video, "H264", "H265"), "unsupported"},
		{"client wants to send only", strings.ReplaceAll(video, "a=recvonly", "a=sendonly"), "unsupported"},
	} {
		_, err := answer(t, offline(t, Stream{0, H264}), c.offer, nil)
		var no refusal
		if !errors.As(err, &no) || no.code != c.code {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
	}
}

func TestPicksTheNearestProfile(t *testing.T) {
	sections, err := parseOffer(chromium(t))
	if err != nil {
		t.Fatal(err)
	}
	for profile, want := range map[string]uint8{
		"42e01f": 109, "42c01e": 109, "42001e": 103, "4d001f": 117, "4d401f": 117, "64001f": 103,
	} {
		if c, ok := sections[0].pick(media.H264, profile); !ok || c.payload != want {
			t.Errorf("%s: picked %d, want %d", profile, c.payload, want)
		}
	}
	if c, ok := sections[1].pick(media.G722, ""); !ok || c.payload != 9 {
		t.Errorf("G722: picked %d, %v", c.payload, ok)
	}
}

func TestReadsCandidateFragments(t *testing.T) {
	got := candidates("a=ice-ufrag:x\r\na=ice-pwd:y\r\nm=video 9 RTP/AVP 0\r\na=mid:0\r\n"+
		"a=candidate:1 1 udp 1 192.0.2.1 1000 typ host\r\na=candidate:2 1 udp 1 192.0.2.1 1001 typ host\r\na=end-of-candidates\r\n", 64)
	if len(got) != 2 || got[0].Candidate != "candidate:1 1 udp 1 192.0.2.1 1000 typ host" || got[1].SDPMid == nil || *got[1].SDPMid != "0" {
		t.Errorf("got %+v", got)
	}
	if n := len(candidates(strings.Repeat("a=candidate:1\n", 100), 64)); n != 64 {
		t.Errorf("%d candidates, want at most 64", n)
	}
}

func FuzzParseOffer(f *testing.F) {
	f.Add(chromium(f))
	f.Add("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 X 96 8 9\r\na=mid:0\r\na=fmtp:96 profile-level-id=zz;packetization-mode=1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		sections, err := parseOffer(text)
		if err != nil {
			return
		}
		for _, s := range sections {
			if s.mid == "" {
				t.Fatal("a section without a mid")
			}
			for _, wire := range []media.Codec{media.H264, media.ALaw, media.G722} {
				if c, ok := s.pick(wire, "42e01f"); ok && c.name != string(wire) {
					t.Fatalf("picked %q for %s", c.name, wire)
				}
			}
		}
	})
}

func FuzzCandidates(f *testing.F) {
	f.Add("a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 1000 typ host\r\n")
	f.Fuzz(func(t *testing.T, fragment string) {
		for _, c := range candidates(fragment, maxTrickled) {
			if !strings.HasPrefix(c.Candidate, "candidate:") || c.SDPMid == nil && c.SDPMLineIndex == nil {
				t.Fatalf("not a candidate: %+v", c)
			}
		}
	})
}
