package device

import (
	"strings"
	"testing"

	"github.com/pion/webrtc/v4"
)

// realOffer is what a client of the usual kind sends.
func realOffer(t testing.TB) string {
	t.Helper()
	pc, err := webrtc.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pc.CreateDataChannel("turnpike.control", nil); err != nil {
		t.Fatal(err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	return offer.SDP
}

func TestAcceptsOffers(t *testing.T) {
	for name, text := range map[string]string{
		"of pion":                realOffer(t),
		"of the test":            offerText,
		"with bare line feeds":   strings.ReplaceAll(offerText, "\r\n", "\n"),
		"without the last break": strings.TrimSuffix(offerText, "\r\n"),
	} {
		if ufrag, err := checkOffer(text); err != nil || ufrag == "" {
			t.Errorf("%s: %q, %v", name, ufrag, err)
		}
	}
}

func TestRefusesOffersNobodyCanAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"empty":          "",
		"JSON":           `{"type":"offer"}`,
		"no sections":    strings.Join(strings.SplitAfter(offerText, "\r\n")[:5], ""),
		"no user name":   strings.Replace(offerText, "a=ice-ufrag", "a=x", 1),
		"no fingerprint": strings.Replace(offerText, "a=fingerprint", "a=x", 1),
		"a wild setup":   strings.Replace(offerText, "actpass", "holdconn", 1),
		"zero bytes":     strings.Replace(offerText, "s=-", "s=\x00", 1),
		"many sections":  offerText + strings.Repeat("m=audio 9 UDP/TLS/RTP/SAVPF 8\r\n", maxSections),
		"many lines":     offerText + strings.Repeat("a=x\r\n", maxAttributes),
	} {
		if _, err := checkOffer(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzCheckOffer(f *testing.F) {
	f.Add(offerText)
	f.Add(answerText)
	f.Add(realOffer(f))
	f.Add("")
	f.Add("v=0\r\nm=")
	f.Fuzz(func(t *testing.T, text string) {
		if ufrag, err := checkOffer(text); err == nil && (ufrag == "" || len(ufrag) > 256) {
			t.Errorf("user name %q", ufrag)
		}
	})
}

func FuzzCheckFragment(f *testing.F) {
	f.Add(fragmentText)
	f.Add("a=end-of-candidates\r\n")
	f.Add("m=audio 9 RTP/AVP 0\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		ufrag, err := checkFragment(text)
		if err != nil {
			return
		}
		if len(ufrag) > 256 || !strings.Contains(text, "a=") || strings.ContainsRune(text, 0) {
			t.Errorf("accepted %q", text)
		}
	})
}
