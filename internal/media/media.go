// Package media knows what is inside the frames: which codecs there are, where an
// H.264 byte stream is cut, what its parameter sets say, and how A-law and G.722
// turn into samples and back. It is pure: bytes in, values out. It knows no
// network, no clock and no file.
package media

// Kind tells pictures from sound. Its text is what the device protocol and the
// "m=" lines of SDP say.
type Kind string

// The kinds of media.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// Codec names a coding by its encoding name in SDP, which is also what the device
// protocol says.
type Codec string

// The codecs devices send. ALaw16 has no name in SDP: browsers refuse A-law at any
// rate but 8 kHz, so it becomes G722 before it leaves the device.
const (
	H264   Codec = "H264"       // Annex-B access units
	ALaw   Codec = "PCMA"       // ITU-T G.711 A-law, 8 kHz mono
	ALaw16 Codec = "PCMA/16000" // ITU-T G.711 A-law, 16 kHz mono
	G722   Codec = "G722"       // ITU-T G.722, 64 kbit/s, 16 kHz mono
)

// Kind says whether c is video or audio; "" for an unknown codec.
func (c Codec) Kind() Kind {
	switch c {
	case H264:
		return Video
	case ALaw, ALaw16, G722:
		return Audio
	}
	return ""
}

// OnWire returns the codec in which frames of c travel in RTP.
func (c Codec) OnWire() Codec {
	if c == ALaw16 {
		return G722
	}
	return c
}

// ClockRate returns how many ticks of an RTP timestamp make a second. For G722 it
// is half the sampling rate: RFC 3551, 4.5.2 keeps a historic mistake.
func (c Codec) ClockRate() uint32 {
	if c == H264 {
		return 90000
	}
	return 8000
}

// SampleRate returns samples per second of audio; 0 for video.
func (c Codec) SampleRate() int {
	switch c {
	case ALaw:
		return 8000
	case ALaw16, G722:
		return 16000
	}
	return 0
}

// PayloadType returns the static RTP payload type (RFC 3551, 6); 0 where it is
// negotiated.
func (c Codec) PayloadType() uint8 {
	switch c {
	case ALaw:
		return 8
	case G722:
		return 9
	}
	return 0
}
