package media

import (
	"os"
	"os/exec"
	"testing"
)

// clip is the demo device's recording: 300 access units, a key frame in each 50.
func clip(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../cmd/turnpike/demo/clip.h264")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ffmpeg returns the path of ffmpeg. Without it the test ends: as a failure where
// CI is set, loudly skipped elsewhere.
func ffmpeg(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("ffmpeg")
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal("ffmpeg is missing, and CI is set")
	}
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: ffmpeg is missing")
	}
	return path
}

func TestKnowsWhatTravelsInRTP(t *testing.T) {
	for _, c := range []struct {
		codec   Codec
		kind    Kind
		wire    Codec
		clock   uint32
		rate    int
		payload uint8
	}{
		{H264, Video, H264, 90000, 0, 0},
		{ALaw, Audio, ALaw, 8000, 8000, 8},
		{ALaw16, Audio, G722, 8000, 16000, 0},
		{G722, Audio, G722, 8000, 16000, 9},
		{"theora", "", "theora", 8000, 0, 0},
	} {
		if c.codec.Kind() != c.kind || c.codec.OnWire() != c.wire || c.codec.ClockRate() != c.clock ||
			c.codec.SampleRate() != c.rate || c.codec.PayloadType() != c.payload {
			t.Errorf("%s: %v %v %v %v %v, want %+v", c.codec, c.codec.Kind(), c.codec.OnWire(),
				c.codec.ClockRate(), c.codec.SampleRate(), c.codec.PayloadType(), c)
		}
	}
}
