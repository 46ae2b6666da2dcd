package media

import (
	"bytes"
	"errors"
)

// MaxAccessUnit bounds one access unit, in bytes. A 4K key frame stays below a
// quarter of it.
const MaxAccessUnit = 4 << 20

// ErrTooLong is returned for a stream without a cut within MaxAccessUnit bytes.
var ErrTooLong = errors.New("cannot cut H.264 stream: access unit is too long")

// Splitter cuts an H.264 byte stream, as encoders write it to files and pipes, into
// access units: one coded picture with the parameter sets and messages before it.
// Feed it with Write, take units with Next, and call Flush at the end of the stream.
// The zero value is ready. A Splitter belongs to one goroutine.
type Splitter struct {
	buf     []byte // from the start code of the unit's first NAL unit on
	scanned int    // buf before here has no further start code
	begun   bool   // buf begins with a NAL unit
	picture bool   // the unit in buf has a slice
	ready   [][]byte
}

// Write takes the next bytes of the stream, in pieces of any size, and copies them.
// After ErrTooLong it is as if the stream began behind p.
func (s *Splitter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 32<<10) // keeps what drop has to move small
		s.buf = append(s.buf, rest[:n]...)
		rest = rest[n:]
		s.scan()
		if len(s.buf) > MaxAccessUnit {
			*s = Splitter{ready: s.ready}
			return len(p), ErrTooLong
		}
	}
	return len(p), nil
}

// scan finds the start codes in what is new and cuts in front of those that begin a
// unit.
func (s *Splitter) scan() {
	for {
		// The byte behind the NAL header has first_mb_in_slice: wait for both.
		at := startCode(s.buf, s.scanned)
		if at < 0 || at+5 > len(s.buf) {
			s.scanned = max(s.scanned, len(s.buf)-2)
			if at >= 0 {
				s.scanned = at
			}
			break
		}
		s.begin(at)
	}
	if !s.begun && len(s.buf) > 3 && s.scanned == len(s.buf)-2 {
		s.drop(s.scanned - 1) // no NAL unit has begun: what is here is no video
	}
}

// begin handles the NAL unit whose start code is at at.
func (s *Splitter) begin(at int) {
	nal := s.buf[at+3:]
	slice := TypeOf(nal) == NALSlice || TypeOf(nal) == NALIDR
	if !s.begun || s.picture && startsUnit(nal) {
		from := at
		if at > 0 && s.buf[at-1] == 0 {
			from-- // the zero byte of a four-byte start code
		}
		if s.begun {
			s.ready = append(s.ready, bytes.Clone(bytes.TrimRight(s.buf[:from], "\x00")))
		}
		s.drop(from)
		at -= from
		s.picture = false
	}
	s.begun, s.scanned = true, at+3
	s.picture = s.picture || slice
}

// drop forgets the first n bytes.
func (s *Splitter) drop(n int) {
	s.buf = append(s.buf[:0], s.buf[n:]...)
	s.scanned = max(0, s.scanned-n)
}

// startsUnit reports whether a NAL unit after a picture begins the next access unit
// (ITU-T H.264, 7.4.1.2.3): a delimiter, parameter set or message, or a slice that
// begins with macroblock 0 (its first ue(v) is the single bit 1).
func startsUnit(nal []byte) bool {
	switch t := TypeOf(nal); t {
	case NALAUD, NALSPS, NALPPS, NALSEI, 14, 15, 16, 17, 18:
		return true
	case NALSlice, NALIDR, 2:
		return len(nal) > 1 && nal[1]&0x80 != 0
	}
	return false
}

// Next returns a complete access unit as Annex-B bytes, or false when more input is
// needed. The caller owns the bytes.
func (s *Splitter) Next() ([]byte, bool) {
	if len(s.ready) == 0 {
		return nil, false
	}
	unit := s.ready[0]
	s.ready = s.ready[1:]
	return unit, true
}

// Flush ends the stream: what is left, if it has a picture, becomes the last unit.
// The Splitter can then be used for another stream.
func (s *Splitter) Flush() {
	if rest := bytes.TrimRight(s.buf, "\x00"); s.picture && len(rest) > 0 {
		s.ready = append(s.ready, bytes.Clone(rest))
	}
	*s = Splitter{ready: s.ready}
}

// AccessUnits cuts a whole recording at once.
func AccessUnits(stream []byte) ([][]byte, error) {
	var s Splitter
	if _, err := s.Write(stream); err != nil {
		return nil, err
	}
	s.Flush()
	return s.ready, nil
}
