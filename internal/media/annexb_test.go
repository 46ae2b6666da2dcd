package media

import (
	"bytes"
	"slices"
	"testing"
)

func TestWalksNALUnits(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream []byte
		want   [][]byte
	}{
		{"nothing", nil, nil},
		{"no start code", []byte{1, 2, 3}, nil},
		{"three-byte start codes", []byte{0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2}, [][]byte{{0x67, 1}, {0x68, 2}}},
		{"four-byte start codes", []byte{0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2}, [][]byte{{0x67, 1}, {0x68, 2}}},
		{"junk before, zeros behind", []byte{9, 0, 0, 1, 0x67, 1, 0, 0, 0, 0}, [][]byte{{0x67, 1}}},
		{"empty unit", []byte{0, 0, 1, 0, 0, 1, 0x65}, [][]byte{{0x65}}},
	} {
		if got := slices.Collect(NALs(c.stream)); !slices.EqualFunc(got, c.want, bytes.Equal) {
			t.Errorf("%s: got %x, want %x", c.name, got, c.want)
		}
	}
}

func TestSeesWhereDecodingCanBegin(t *testing.T) {
	units, err := AccessUnits(clip(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range units {
		f := Look(u)
		if f.Slices != 1 || f.Key != (i%50 == 0) || f.Starts() != (i%50 == 0) {
			t.Fatalf("unit %d: %d slices, key %v, starts %v", i, f.Slices, f.Key, f.Starts())
		}
	}
}

func FuzzNALs(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0x67, 0, 0, 0, 1, 0x68, 0})
	f.Add(clip(f)[:300])
	f.Fuzz(func(t *testing.T, b []byte) {
		Look(b)
		for nal := range NALs(b) {
			if len(nal) == 0 || bytes.Contains(nal, []byte{0, 0, 1}) || nal[len(nal)-1] == 0 {
				t.Fatalf("not a NAL unit: %x", nal)
			}
		}
	})
}
