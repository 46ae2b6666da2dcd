package client

import (
	"time"

	"github.com/turnpike-rtc/turnpike/internal/media"
)

// Codec names the coding of a stream.
type Codec string

// The codecs a client receives.
const (
	H264 Codec = Codec(media.H264)
	ALaw Codec = Codec(media.ALaw) // G.711 A-law, 8 kHz mono
	G722 Codec = Codec(media.G722) // ITU-T G.722, 64 kbit/s, 16 kHz mono
)

// Output is where the frames of one stream go: a VideoOutput or an AudioOutput.
type Output interface {
	kind() media.Kind
	deliver(f frame)
}

// VideoOutput receives the pictures of a stream. The first one is a key frame.
type VideoOutput func(VideoFrame)

// AudioOutput receives the sound of a stream, usually 20 ms at a time.
type AudioOutput func(AudioFrame)

// VideoFrame is one picture.
type VideoFrame struct {
	Stream uint8
	Codec  Codec
	Data   []byte // an H.264 access unit as an Annex-B byte stream
	Key    bool   // decoding can begin here
	// Timestamp is when the picture is due, counted from the moment the connection was
	// first up, on a clock that all streams of the connection share to within the
	// jitter of the network. It grows with each frame. The pictures a new viewer gets
	// to catch up are a millisecond apart.
	Timestamp time.Duration
	// Discontinuity says that pictures are missing before this one, which is a key frame.
	Discontinuity bool
}

// AudioFrame is a piece of sound.
type AudioFrame struct {
	Stream        uint8
	Codec         Codec
	Data          []byte        // octets as the codec has them; both codecs have 8 in a millisecond
	Timestamp     time.Duration // when it is due, as for VideoFrame
	Discontinuity bool          // sound is missing before it
}

// frame is a VideoFrame or AudioFrame under way.
type frame struct {
	stream uint8
	codec  media.Codec
	data   []byte
	key    bool
	at     time.Duration
	gap    bool
}

func (VideoOutput) kind() media.Kind { return media.Video }
func (AudioOutput) kind() media.Kind { return media.Audio }

func (o VideoOutput) deliver(f frame) {
	o(VideoFrame{f.stream, Codec(f.codec), f.data, f.key, f.at, f.gap})
}

func (o AudioOutput) deliver(f frame) {
	o(AudioFrame{f.stream, Codec(f.codec), f.data, f.at, f.gap})
}
