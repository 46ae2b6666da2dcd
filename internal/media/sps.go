package media

import (
	"errors"
	"fmt"
)

// ErrSPS is returned for bytes that are no H.264 sequence parameter set.
var ErrSPS = errors.New("cannot read SPS")

// SPS is what a sequence parameter set says about the pictures
// (ITU-T H.264, 7.3.2.1.1).
type SPS struct {
	Profile     uint8 // profile_idc
	Constraints uint8 // constraint_set0_flag is the highest bit
	Level       uint8 // level_idc, ten times the level
	Width       int   // pixels, cropped
	Height      int   // pixels, cropped
}

// ProfileLevelID writes profile, constraints and level as six hex digits, as SDP
// does (RFC 6184, 8.1).
func (s SPS) ProfileLevelID() string {
	return fmt.Sprintf("%02x%02x%02x", s.Profile, s.Constraints, s.Level)
}

// ParseSPS reads an SPS NAL unit without its start code.
func ParseSPS(nal []byte) (SPS, error) {
	if TypeOf(nal) != NALSPS || len(nal) < 5 {
		return SPS{}, ErrSPS
	}
	s := SPS{Profile: nal[1], Constraints: nal[2], Level: nal[3]}
	r := bitReader{b: unescape(nal[4:])}
	r.ue() // seq_parameter_set_id
	chroma, separate := uint32(1), false
	switch s.Profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		chroma, separate = r.highProfile()
	}
	r.ue() // log2_max_frame_num_minus4
	r.picOrder()
	r.ue()    // max_num_ref_frames
	r.bits(1) // gaps_in_frame_num_value_allowed_flag
	width, height := r.ue()+1, r.ue()+1
	frames := r.bits(1) // frame_mbs_only_flag
	if frames == 0 {
		r.bits(1) // mb_adaptive_frame_field_flag
	}
	r.bits(1) // direct_8x8_inference_flag
	cropX, cropY := r.crop(chroma, separate, frames)
	if r.bad || width > 1<<10 || height > 1<<10 {
		return SPS{}, ErrSPS
	}
	s.Width = int(width)*16 - cropX
	s.Height = int(height)*16*int(2-frames) - cropY
	if s.Width <= 0 || s.Height <= 0 {
		return SPS{}, ErrSPS
	}
	return s, nil
}

// highProfile reads what the high profiles put before log2_max_frame_num_minus4.
func (r *bitReader) highProfile() (chroma uint32, separate bool) {
	chroma = r.ue()
	if chroma == 3 {
		separate = r.bits(1) == 1
	}
	r.ue()    // bit_depth_luma_minus8
	r.ue()    // bit_depth_chroma_minus8
	r.bits(1) // qpprime_y_zero_transform_bypass_flag
	if r.bits(1) == 1 {
		r.scalingLists(chroma)
	}
	return chroma, separate
}

// scalingLists skips the scaling matrix (7.3.2.1.1.1).
func (r *bitReader) scalingLists(chroma uint32) {
	lists := 8
	if chroma == 3 {
		lists = 12
	}
	for i := range lists {
		if r.bits(1) == 0 {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := int32(8), int32(8)
		for range size {
			if next != 0 {
				next = (last + r.se() + 256) & 255
			}
			if next != 0 {
				last = next
			}
		}
	}
}

// picOrder skips the picture order count fields.
func (r *bitReader) picOrder() {
	switch r.ue() {
	case 0:
		r.ue()
	case 1:
		r.bits(1)
		r.se()
		r.se()
		for n := r.ue(); n > 0 && !r.bad; n-- {
			r.se()
		}
	}
}

// crop reads the cropping rectangle and returns pixels to take off (7.4.2.1.1).
func (r *bitReader) crop(chroma uint32, separate bool, frames uint32) (x, y int) {
	if r.bits(1) == 0 {
		return 0, 0
	}
	left, right, top, bottom := r.ue(), r.ue(), r.ue(), r.ue()
	if max(left, right, top, bottom) > 1<<14 {
		r.bad = true
		return 0, 0
	}
	unitX, unitY := 1, 1
	if !separate && (chroma == 1 || chroma == 2) {
		unitX = 2
	}
	if !separate && chroma == 1 {
		unitY = 2
	}
	return int(left+right) * unitX, int(top+bottom) * unitY * int(2-frames)
}

// unescape removes emulation prevention bytes: 00 00 03 means 00 00.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	zeros := 0
	for _, c := range b {
		if zeros >= 2 && c == 3 {
			zeros = 0
			continue
		}
		if c == 0 {
			zeros++
		} else {
			zeros = 0
		}
		out = append(out, c)
	}
	return out
}

// bitReader reads the fields of a parameter set. Past the end it gives zeros and
// sets bad.
type bitReader struct {
	b   []byte
	at  int // bits
	bad bool
}

func (r *bitReader) bits(n int) uint32 {
	var v uint32
	for range n {
		if r.at>>3 >= len(r.b) {
			r.bad = true
			return 0
		}
		v = v<<1 | uint32(r.b[r.at>>3]>>(7-r.at&7)&1)
		r.at++
	}
	return v
}

// ue reads an unsigned Exp-Golomb number (ITU-T H.264, 9.1).
func (r *bitReader) ue() uint32 {
	zeros := 0
	for r.bits(1) == 0 {
		if zeros++; zeros > 31 || r.bad {
			r.bad = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.bits(zeros)
}

// se reads a signed Exp-Golomb number (9.1.1).
func (r *bitReader) se() int32 {
	k := r.ue()
	if k&1 == 1 {
		return int32(k/2) + 1
	}
	return -int32(k / 2)
}
