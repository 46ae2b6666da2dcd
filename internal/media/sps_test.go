package media

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"testing"
)

func TestReadsSPSOfClip(t *testing.T) {
	s, err := ParseSPS(Look(clip(t)).SPS)
	if err != nil {
		t.Fatal(err)
	}
	if s.Width != 640 || s.Height != 360 || s.ProfileLevelID() != "42c01e" {
		t.Errorf("got %dx%d %s", s.Width, s.Height, s.ProfileLevelID())
	}
}

func TestReadsSPSOfWhatFFmpegMakes(t *testing.T) {
	path := ffmpeg(t)
	for _, c := range []struct {
		width, height int
		profile, pix  string
		flags         string
		id            string
	}{
		{1920, 1080, "high", "yuv420p", "", "64001e"},
		{322, 242, "main", "yuv420p", "", "4d401e"},
		{320, 240, "high422", "yuv422p", "", "7a001e"},
		{318, 238, "high444", "yuv444p", "", "f4001e"},
		{640, 480, "high", "yuv420p", "interlaced=1:tff=1", "64001e"},
		{640, 480, "high", "yuv420p", "cqm=jvt", "64001e"},
	} {
		args := []string{"-v", "error", "-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=%dx%d:rate=5:duration=1", c.width, c.height),
			"-pix_fmt", c.pix, "-c:v", "libx264", "-profile:v", c.profile, "-level:v", "3.0"}
		if c.flags != "" {
			args = append(args, "-x264-params", c.flags)
		}
		out, err := exec.Command(path, append(args, "-f", "h264", "-")...).Output()
		if err != nil {
			t.Fatalf("cannot run ffmpeg: %v", err)
		}
		s, err := ParseSPS(Look(out).SPS)
		if err != nil || s.Width != c.width || s.Height != c.height || s.ProfileLevelID() != c.id {
			t.Errorf("%+v: got %dx%d %s, %v", c, s.Width, s.Height, s.ProfileLevelID(), err)
		}
	}
}

func TestRefusesBadSPS(t *testing.T) {
	good := Look(clip(t)).SPS
	for _, b := range [][]byte{nil, {0x67}, good[:4], good[:6], {0x68, 1, 2, 3, 4, 5}, {0x67, 66, 0, 30, 0, 0, 0, 0, 0}} {
		if _, err := ParseSPS(b); !errors.Is(err, ErrSPS) {
			t.Errorf("%x: got %v, want ErrSPS", b, err)
		}
	}
}

func FuzzParseSPS(f *testing.F) {
	f.Add(Look(clip(f)).SPS)
	for _, s := range []string{
		"6764001facd9405005bb016c80000003008000001e078c18cb", // High, 1280x720
		"674d401e965402802dd80a0401", "67f4000d919b28283f6022000003000200000300641e28532c",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSPS(b)
		if err == nil && (s.Width <= 0 || s.Height <= 0 || s.Width > 1<<14 || s.Height > 1<<15 || len(s.ProfileLevelID()) != 6) {
			t.Fatalf("impossible picture: %+v", s)
		}
	})
}
