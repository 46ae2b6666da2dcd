package media

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCutsClipIntoItsFrames(t *testing.T) {
	stream := clip(t)
	whole, err := AccessUnits(stream)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) != 300 {
		t.Fatalf("got %d access units, want 300", len(whole))
	}
	if !bytes.Equal(bytes.Join(whole, nil), stream) {
		t.Error("the units together are not the stream")
	}

	var s Splitter
	var got [][]byte
	random := rand.New(rand.NewPCG(1, 2))
	for rest := stream; len(rest) > 0; {
		n := min(len(rest), 1+random.IntN(3000))
		if _, err := s.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
		for u, ok := s.Next(); ok; u, ok = s.Next() {
			got = append(got, u)
		}
	}
	s.Flush()
	for u, ok := s.Next(); ok; u, ok = s.Next() {
		got = append(got, u)
	}
	if !slices.EqualFunc(got, whole, bytes.Equal) {
		t.Errorf("cut %d units out of pieces, other than the %d of the whole", len(got), len(whole))
	}
}

func TestCutsWhereAPictureBegins(t *testing.T) {
	nal := func(b ...byte) []byte { return append([]byte{0, 0, 0, 1}, b...) }
	aud, sps, pps, sei := nal(0x09, 0xf0), nal(0x67, 1), nal(0x68, 1), nal(0x06, 5)
	idr, idrRest := nal(0x65, 0x88), nal(0x65, 0x40)
	slice, sliceRest := nal(0x41, 0x9a), nal(0x41, 0x40)
	join := func(nals ...[]byte) []byte { return bytes.Join(nals, nil) }

	for _, c := range []struct {
		name  string
		units [][]byte
	}{
		{"parameter sets belong to what follows", [][]byte{join(sps, pps, idr), slice, join(sps, pps, idr)}},
		{"delimiters cut", [][]byte{join(aud, sps, pps, sei, idr), join(aud, slice), join(aud, slice)}},
		{"several slices make one picture", [][]byte{join(sps, pps, idr, idrRest, idrRest), join(slice, sliceRest), join(slice)}},
		{"messages belong to what follows", [][]byte{join(sps, pps, idr), join(sei, slice), join(sei, slice)}},
		{"one frame", [][]byte{join(sps, pps, idr)}},
		{"parameter sets alone are no frame", nil},
	} {
		stream := join(c.units...)
		if c.units == nil {
			stream = join(sps, pps)
		}
		got, err := AccessUnits(append([]byte{7, 7}, stream...))
		if err != nil || !slices.EqualFunc(got, c.units, bytes.Equal) {
			t.Errorf("%s: got %x, %v, want %x", c.name, got, err, c.units)
		}
	}
}

func TestRefusesEndlessAccessUnit(t *testing.T) {
	var s Splitter
	if _, err := s.Write([]byte{0, 0, 1, 0x65, 0x88}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(bytes.Repeat([]byte{0xff}, MaxAccessUnit)); !errors.Is(err, ErrTooLong) {
		t.Fatalf("got %v, want ErrTooLong", err)
	}
	if _, err := s.Write([]byte{0, 0, 1, 0x65, 0x88, 1, 0, 0, 1, 0x09, 0xf0}); err != nil {
		t.Fatal(err)
	}
	if u, ok := s.Next(); !ok || !bytes.Equal(u, []byte{0, 0, 1, 0x65, 0x88, 1}) {
		t.Errorf("does not go on afterwards: %x", u)
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add(clip(f)[:2000], 7)
	f.Add([]byte{0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x65, 0x88, 0, 0, 1, 0x09}, 1)
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0x41, 0, 0, 1}, 3)
	f.Fuzz(func(t *testing.T, stream []byte, piece int) {
		if piece < 1 {
			return
		}
		whole, _ := AccessUnits(stream)
		var s Splitter
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), piece)
			if _, err := s.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		s.Flush()
		for i := 0; ; i++ {
			u, ok := s.Next()
			if !ok && i != len(whole) || ok && (i >= len(whole) || !bytes.Equal(u, whole[i])) {
				t.Fatalf("unit %d depends on how the stream is cut: %x", i, u)
			}
			if !ok {
				return
			}
			if Look(u).Slices == 0 && !bytes.Contains(u, []byte{0, 0, 1}) {
				t.Fatalf("unit %d has no picture: %x", i, u)
			}
		}
	})
}
