package device

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

// maxSections bounds the media sections of an offer.
const maxSections = 32

// offered is one media section of a client's offer, as far as the device cares.
type offered struct {
	mid      string
	kind     media.Kind // "" for data channels and what is unknown
	receives bool       // the client wants to get media here
	codecs   []offeredCodec
}

// offeredCodec is one payload type of an offer.
type offeredCodec struct {
	payload uint8
	name    string // upper case
	fmtp    string
}

// parseOffer reads the media sections of an SDP offer from outside. It is stricter
// than pion where pion would go on with nonsense.
func parseOffer(text string) ([]offered, error) {
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(text); err != nil {
		return nil, fmt.Errorf("cannot read SDP: %w", err)
	}
	if len(desc.MediaDescriptions) == 0 || len(desc.MediaDescriptions) > maxSections {
		return nil, fmt.Errorf("cannot use SDP with %d media sections", len(desc.MediaDescriptions))
	}
	mids := make(map[string]bool)
	var all []offered
	for _, m := range desc.MediaDescriptions {
		s := offered{kind: media.Kind(m.MediaName.Media), receives: true}
		if s.kind != media.Video && s.kind != media.Audio {
			s.kind = ""
		}
		s.mid, _ = m.Attribute("mid")
		if s.mid == "" || len(s.mid) > 64 || mids[s.mid] {
			return nil, fmt.Errorf("cannot use SDP: media section without an a=mid of its own")
		}
		mids[s.mid] = true
		for _, a := range m.Attributes {
			switch a.Key {
			case "sendonly", "inactive":
				s.receives = false
			}
		}
		s.codecs = payloads(m)
		all = append(all, s)
	}
	return all, nil
}

// payloads reads the a=rtpmap and a=fmtp lines of a section, in its order of preference.
func payloads(m *sdp.MediaDescription) []offeredCodec {
	byPayload := make(map[string]*offeredCodec)
	var order []*offeredCodec
	for _, format := range m.MediaName.Formats {
		n, err := strconv.ParseUint(format, 10, 7)
		if err != nil || byPayload[format] != nil || len(order) >= 128 {
			continue
		}
		c := &offeredCodec{payload: uint8(n)}
		switch n { // static types need no rtpmap (RFC 3551, 6)
		case 8:
			c.name = string(media.ALaw)
		case 9:
			c.name = string(media.G722)
		}
		byPayload[format] = c
		order = append(order, c)
	}
	for _, a := range m.Attributes {
		format, value, _ := strings.Cut(a.Value, " ")
		c := byPayload[format]
		switch {
		case c == nil:
		case a.Key == "rtpmap":
			name, _, _ := strings.Cut(value, "/")
			c.name = strings.ToUpper(strings.TrimSpace(name))
		case a.Key == "fmtp":
			c.fmtp = strings.TrimSpace(value)
		}
	}
	all := make([]offeredCodec, 0, len(order))
	for _, c := range order {
		all = append(all, *c)
	}
	return all
}

// pick returns the offered codec for a stream: for H.264 the one with the profile
// nearest to the stream's, packetization-mode 1 (RFC 6184, 8.1); false if there is none.
func (o offered) pick(wire media.Codec, profile string) (offeredCodec, bool) {
	best, score := offeredCodec{}, 0
	for _, c := range o.codecs {
		if c.name != string(wire) {
			continue
		}
		s := 1
		if wire == media.H264 {
			s = c.matches(profile)
		} else if c.payload != wire.PayloadType() {
			s = 0
		}
		if s > score {
			best, score = c, s
		}
	}
	return best, score > 0
}

// matches says how well an offered H.264 codec suits a profile-level-id: 0 not at
// all. A player that offers only baseline is given any profile: those in browsers
// decode what comes, and the label is the best there is.
func (c offeredCodec) matches(profile string) int {
	params := make(map[string]string)
	for p := range strings.SplitSeq(c.fmtp, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		params[strings.ToLower(k)] = strings.ToLower(v)
	}
	id := params["profile-level-id"]
	switch {
	case params["packetization-mode"] != "1":
		return 0
	case len(id) != 6:
		return 1
	case id[:4] == profile[:4]:
		return 4
	case id[:2] == profile[:2] && constrained(id) == constrained(profile):
		return 3
	case id[:2] == profile[:2]:
		return 2
	}
	return 1
}

// constrained says whether constraint_set1_flag is set: in baseline, it promises
// what all decoders of any profile can play.
func constrained(profile string) bool {
	n, err := strconv.ParseUint(profile[2:4], 16, 8)
	return err == nil && n&0x40 != 0
}

// candidates reads the candidates of an SDP fragment (RFC 8840, 9). Lines of other
// kinds are ignored; at most the first most candidates count.
func candidates(fragment string, most int) []webrtc.ICECandidateInit {
	var all []webrtc.ICECandidateInit
	var mid *string
	for line := range strings.Lines(fragment) {
		line = strings.TrimSpace(line)
		if m, ok := strings.CutPrefix(line, "a=mid:"); ok {
			mid = &m
		}
		if strings.HasPrefix(line, "a=candidate:") && len(line) < 512 && len(all) < most {
			all = append(all, webrtc.ICECandidateInit{Candidate: line[2:], SDPMid: mid})
		}
	}
	if mid == nil { // with one bundle, any section will do
		first := uint16(0)
		for i := range all {
			all[i].SDPMLineIndex = &first
		}
	}
	return all
}
