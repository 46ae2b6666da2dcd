package device

import (
	"errors"
	"strings"

	"github.com/pion/sdp/v3"
)

const (
	maxSections   = 64   // media sections of an offer
	maxAttributes = 4096 // attributes of an offer, all sections together
)

var errSDP = errors.New("SDP is of no use here")

// checkOffer reports whether an SDP is an offer that a device can answer, and
// returns its ICE user name. It looks at what every WebRTC offer must have (RFC
// 8829, 5.2): media sections, ICE credentials and a DTLS fingerprint. What to make
// of codecs is for the device.
func checkOffer(text string) (ufrag string, err error) {
	s, err := parse(text)
	if err != nil {
		return "", err
	}
	if len(s.MediaDescriptions) == 0 || len(s.MediaDescriptions) > maxSections {
		return "", errSDP
	}
	fingerprint := false
	for _, section := range sections(s) {
		if u := attribute(section, "ice-ufrag"); u != "" && ufrag == "" {
			ufrag = u
		}
		fingerprint = fingerprint || attribute(section, "fingerprint") != ""
		if setup := attribute(section, "setup"); setup != "" && setup != "actpass" && setup != "active" && setup != "passive" {
			return "", errSDP
		}
	}
	if ufrag == "" || len(ufrag) > 256 || !fingerprint {
		return "", errSDP
	}
	return ufrag, nil
}

// checkAnswer reports whether a device's answer may go to the client.
func checkAnswer(text string) error {
	s, err := parse(text)
	if err == nil && len(s.MediaDescriptions) == 0 {
		err = errSDP
	}
	return err
}

func parse(text string) (*sdp.SessionDescription, error) {
	// Lines end in CRLF; that of the last one, and bare LF, are forgiven (RFC 8866, 5).
	if !strings.HasSuffix(text, "\n") {
		text += "\r\n"
	}
	if strings.ContainsRune(text, 0) {
		return nil, errSDP
	}
	s := new(sdp.SessionDescription)
	if s.UnmarshalString(text) != nil {
		return nil, errSDP
	}
	count := 0
	for _, section := range sections(s) {
		count += len(section)
	}
	if count > maxAttributes {
		return nil, errSDP
	}
	return s, nil
}

// sections are the attributes of the session and of each media section.
func sections(s *sdp.SessionDescription) [][]sdp.Attribute {
	all := [][]sdp.Attribute{s.Attributes}
	for _, m := range s.MediaDescriptions {
		all = append(all, m.Attributes)
	}
	return all
}

func attribute(list []sdp.Attribute, key string) string {
	for _, a := range list {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// checkFragment reports whether a text is an SDP fragment that trickles candidates
// (RFC 8840, 9), and returns its ICE user name, if it has one. It consists of
// attribute and media lines; candidates or their end must be among them.
func checkFragment(text string) (ufrag string, err error) {
	candidates := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		if !printableLine(line) || !strings.HasPrefix(line, "a=") && !strings.HasPrefix(line, "m=") {
			return "", errSDP
		}
		key, value, _ := strings.Cut(line[2:], ":")
		switch {
		case line[0] == 'm':
		case key == "ice-ufrag":
			if ufrag = value; ufrag == "" || len(ufrag) > 256 {
				return "", errSDP
			}
		case key == "candidate", key == "end-of-candidates":
			candidates = true
		}
	}
	if !candidates && ufrag == "" {
		return "", errSDP
	}
	return ufrag, nil
}

func printableLine(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}
