package media

import (
	"bytes"
	"iter"
)

// NALType is the type of an H.264 NAL unit (ITU-T H.264, table 7-1).
type NALType uint8

// The NAL unit types that matter for cutting and starting a stream.
const (
	NALSlice  NALType = 1
	NALIDR    NALType = 5
	NALSEI    NALType = 6
	NALSPS    NALType = 7
	NALPPS    NALType = 8
	NALAUD    NALType = 9
	NALFiller NALType = 12
)

// TypeOf returns the type of a NAL unit without its start code; 0 for an empty one.
func TypeOf(nal []byte) NALType {
	if len(nal) == 0 {
		return 0
	}
	return NALType(nal[0] & 0x1f)
}

// NALs walks the NAL units of an Annex-B byte stream (ITU-T H.264, annex B.1)
// without start codes and trailing zeros. The slices share b's memory. Bytes before
// the first start code are skipped.
func NALs(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		at := startCode(b, 0)
		for at >= 0 {
			from := at + 3
			at = startCode(b, from)
			end := at
			if at < 0 {
				end = len(b)
			}
			// A NAL unit never ends in a zero byte: those belong to the next start code.
			nal := bytes.TrimRight(b[from:end], "\x00")
			if len(nal) > 0 && !yield(nal) {
				return
			}
		}
	}
}

// startCode returns where 00 00 01 begins at or after from, or -1.
func startCode(b []byte, from int) int {
	if i := bytes.Index(b[from:], []byte{0, 0, 1}); i >= 0 {
		return from + i
	}
	return -1
}

// Facts is what a look at the NAL units of an access unit tells.
type Facts struct {
	Key    bool // it has an IDR picture
	SPS    []byte
	PPS    []byte
	Slices int // coded slices; 0: no picture at all
}

// Starts reports whether decoding can begin here: SPS, PPS and an IDR picture.
func (f Facts) Starts() bool { return f.Key && f.SPS != nil && f.PPS != nil }

// Look reads the facts of an Annex-B access unit. The slices share unit's memory.
func Look(unit []byte) Facts {
	var f Facts
	for nal := range NALs(unit) {
		switch TypeOf(nal) {
		case NALSPS:
			f.SPS = nal
		case NALPPS:
			f.PPS = nal
		case NALIDR:
			f.Key = true
			f.Slices++
		case NALSlice:
			f.Slices++
		}
	}
	return f
}
