package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"os/exec"
	"testing"
)

// signal makes n samples from integers alone, so that they are the same on every
// machine: a swept triangle, noise that swells and fades, silence and full scale.
func signal(n int) []int16 {
	out := make([]int16, n)
	phase, noise := uint32(0), uint32(1)
	for i := range out {
		phase += 1<<20 + uint32(i)<<12
		noise = noise*1664525 + 1013904223
		triangle := int32(phase>>16) - 32768
		if triangle < 0 {
			triangle = -triangle
		}
		v := (triangle - 16384) / 2
		switch i / 1600 % 5 {
		case 1:
			v = int32(noise>>16) - 32768
			v = v * int32(i%1600) / 1600
		case 2:
			v += (int32(noise>>16) - 32768) / 8
		case 3:
			v = 0
		case 4:
			v = 32767
			if noise>>31 == 0 {
				v = -32768
			}
		}
		out[i] = int16(v)
	}
	return out
}

func pcm(samples []int16) []byte {
	var b []byte
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	return b
}

func filter(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(ffmpeg(t), append([]string{"-v", "error"}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot run ffmpeg: %v", err)
	}
	return out
}

func TestG722IsBitExactWithFFmpeg(t *testing.T) {
	samples := signal(16000 * 20)
	want := filter(t, pcm(samples), "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-", "-c:a", "g722", "-f", "g722", "-")
	got := NewG722Encoder().Encode(nil, samples)
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("octet %d is %#02x, ffmpeg has %#02x", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d octets, ffmpeg has %d", len(got), len(want))
	}
}

// The vector was compared with ffmpeg's encoder once; it keeps the test's teeth where
// there is no ffmpeg.
func TestG722MatchesVector(t *testing.T) {
	const first, sum = "f5f6f6f6b4f4f4f5f6b7f7f7b7f8f2f8", "19700d79aaf30d8471bb5c2ae1e256d7e6e8e0315b959c8d7e9eb9dffb5a18ea"
	got := NewG722Encoder().Encode(nil, signal(32000))
	if hex.EncodeToString(got[100:116]) != first {
		t.Errorf("octets 100 to 115 are %x, want %s", got[100:116], first)
	}
	if s := sha256.Sum256(got); hex.EncodeToString(s[:]) != sum {
		t.Errorf("SHA-256 of 16000 octets is %x, want %s", s, sum)
	}
}

func TestG722KeepsStateAcrossFrames(t *testing.T) {
	samples := signal(3200)
	whole := NewG722Encoder().Encode(nil, samples)
	e := NewG722Encoder()
	var pieces []byte
	for len(samples) > 0 {
		pieces = e.Encode(pieces, samples[:320])
		samples = samples[320:]
	}
	if !bytes.Equal(whole, pieces) {
		t.Error("encoding in frames differs from encoding at once")
	}
}

func TestG722CarriesWidebandALaw(t *testing.T) {
	// 5500 Hz cannot exist at 8 kHz.
	var alaw []byte
	for i := range 16000 {
		alaw = append(alaw, EncodeALaw(int16(12000*math.Sin(2*math.Pi*5500*float64(i)/16000))))
	}
	octets := NewG722Encoder().EncodeALaw(nil, alaw)
	if len(octets) != 8000 {
		t.Fatalf("%d octets for a second, want 8000", len(octets))
	}
	out := filter(t, octets, "-f", "g722", "-i", "-", "-f", "s16le", "-")
	tone, other := power(out[8000:], 5500), power(out[8000:], 2500)
	if tone < 1000*other || tone < 1e6 {
		t.Errorf("power at 5500 Hz is %g, at 2500 Hz %g", tone, other)
	}
}

// power is that of one frequency in 16 kHz samples.
func power(b []byte, hz float64) float64 {
	var re, im float64
	n := len(b) / 2
	for i := range n {
		s := float64(int16(binary.LittleEndian.Uint16(b[2*i:])))
		re += s * math.Cos(2*math.Pi*hz*float64(i)/16000)
		im += s * math.Sin(2*math.Pi*hz*float64(i)/16000)
	}
	return (re*re + im*im) / float64(n) / float64(n)
}

func TestALawRoundTrip(t *testing.T) {
	for i := range 256 {
		if got := EncodeALaw(DecodeALaw(byte(i))); got != byte(i) {
			t.Errorf("octet %#02x comes back as %#02x", i, got)
		}
	}
	for v := -32768; v <= 32767; v++ {
		got := int(DecodeALaw(EncodeALaw(int16(v))))
		if diff := got - v; max(diff, -diff) > max(8, max(v, -v)/32+1) {
			t.Fatalf("sample %d comes back as %d", v, got)
		}
	}
}

func TestALawMatchesRecommendation(t *testing.T) {
	for _, c := range []struct {
		octet  byte
		sample int16
	}{{0xd5, 8}, {0x55, -8}, {0xaa, 32256}, {0x2a, -32256}, {0xc5, 264}, {0x80, 5504}} {
		if got := DecodeALaw(c.octet); got != c.sample {
			t.Errorf("octet %#02x is %d, want %d", c.octet, got, c.sample)
		}
	}
}

func TestALawMatchesFFmpeg(t *testing.T) {
	var octets, want []byte
	for i := range 256 {
		octets = append(octets, byte(i))
		want = binary.LittleEndian.AppendUint16(want, uint16(DecodeALaw(byte(i))))
	}
	if got := filter(t, octets, "-f", "alaw", "-ar", "8000", "-i", "-", "-f", "s16le", "-"); !bytes.Equal(got, want) {
		t.Error("ffmpeg decodes the octets to other samples")
	}
}

func BenchmarkG722(b *testing.B) {
	alaw := make([]byte, 320)
	for i, s := range signal(320) {
		alaw[i] = EncodeALaw(s)
	}
	e := NewG722Encoder()
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = e.EncodeALaw(dst[:0], alaw)
	}
}
