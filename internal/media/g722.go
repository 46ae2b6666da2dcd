package media

// G722Encoder encodes 16 kHz speech to 64 kbit/s (ITU-T G.722, 11/88): a quadrature
// mirror filter halves the band, and each half is coded by its own ADPCM, the low
// one with 6 bits and the high one with 2. Names in capitals in the comments are the
// blocks of the Recommendation's section 6.2. The zero value is not ready; use
// NewG722Encoder. An encoder is one stream's and belongs to one goroutine.
type G722Encoder struct {
	history [24]int32 // newest samples last
	low     band
	high    band
}

// band is the state of one sub-band coder.
type band struct {
	det   int32    // quantiser scale factor
	log   int32    // its logarithm, NBL or NBH
	pred  int32    // predicted sample, SL or SH
	zero  int32    // the zero section's part of it, SZL or SZH
	poles [2]int32 // AL or AH
	zeros [6]int32 // BL or BH
	recon [2]int32 // reconstructed samples, newest first, RLT or RH
	diffs [6]int32 // quantised differences, newest first, DLT or DH
	signs [2]bool  // whether the partial reconstructions PLT or PH were negative
}

// NewG722Encoder returns an encoder in the reset state (6.2.1.5).
func NewG722Encoder() *G722Encoder {
	return &G722Encoder{low: band{det: 32}, high: band{det: 8}}
}

// Encode appends one octet to dst for each two samples. An odd last sample is left
// out.
func (e *G722Encoder) Encode(dst []byte, samples []int16) []byte {
	for ; len(samples) >= 2; samples = samples[2:] {
		dst = append(dst, e.pair(int32(samples[0]), int32(samples[1])))
	}
	return dst
}

// EncodeALaw appends the G.722 octets for A-law octets sampled at 16 kHz.
func (e *G722Encoder) EncodeALaw(dst, alaw []byte) []byte {
	for ; len(alaw) >= 2; alaw = alaw[2:] {
		dst = append(dst, e.pair(int32(DecodeALaw(alaw[0])), int32(DecodeALaw(alaw[1]))))
	}
	return dst
}

func (e *G722Encoder) pair(a, b int32) byte {
	copy(e.history[:], e.history[2:])
	e.history[22], e.history[23] = a, b
	low, high := e.split()

	il := e.low.quantiseLow(clip16(low - e.low.pred))
	e.low.adaptLow(il)
	ih := e.high.quantiseHigh(clip16(high - e.high.pred))
	e.high.adaptHigh(ih)
	return byte(ih<<6 | il)
}

// split is the transmit quadrature mirror filter (TXQMF).
func (e *G722Encoder) split() (low, high int32) {
	var even, odd int32
	for i, c := range qmf {
		even += c * e.history[2*i]
		odd += c * e.history[23-2*i]
	}
	return clip16((odd + even) >> 14), clip16((odd - even) >> 14)
}

// quantiseLow is QUANTL: the 6-bit code of a difference.
func (b *band) quantiseLow(diff int32) int32 {
	size := diff
	if diff < 0 {
		size = -diff - 1
	}
	step := int32(1)
	for step < 30 && size >= lowSteps[step]*b.det>>12 {
		step++
	}
	switch {
	case diff >= 0:
		return 62 - step
	case step <= 2:
		return 64 - step
	}
	return 34 - step
}

// quantiseHigh is QUANTH: the 2-bit code of a difference.
func (b *band) quantiseHigh(diff int32) int32 {
	size, code := diff, int32(3)
	if diff < 0 {
		size, code = -diff-1, 1
	}
	if size >= 564*b.det>>12 {
		code--
	}
	return code
}

// adaptLow follows what the decoder will make of the code's upper four bits
// (INVQAL, LOGSCL, SCALEL).
func (b *band) adaptLow(code int32) {
	diff := b.det * lowValues[code>>2] >> 15
	b.log = min(max(b.log*127>>7+lowScale[code>>2], 0), 18432)
	b.det = scale(b.log, 8)
	b.predict(diff)
}

// adaptHigh is the same for the high band (INVQAH, LOGSCH, SCALEH).
func (b *band) adaptHigh(code int32) {
	diff := b.det * highValues[code] >> 15
	b.log = min(max(b.log*127>>7+highScale[code], 0), 22528)
	b.det = scale(b.log, 10)
	b.predict(diff)
}

// scale turns the logarithmic scale factor into the linear one.
func scale(log, top int32) int32 {
	v := exponents[log>>6&31]
	if shift := top - log>>11; shift >= 0 {
		v >>= shift
	} else {
		v <<= -shift
	}
	return v << 2
}

// predict adapts the predictor to a quantised difference and computes the next
// prediction (RECONS, PARREC, UPPOL2, UPPOL1, UPZERO, FILTEZ, FILTEP, PREDIC).
func (b *band) predict(diff int32) {
	recon := clip16(b.pred + diff)
	negative := b.zero+diff < 0
	b.adaptPoles(negative == b.signs[0], negative == b.signs[1])
	b.signs = [2]bool{negative, b.signs[0]}
	b.adaptZeros(diff)

	copy(b.diffs[1:], b.diffs[:5])
	b.diffs[0] = diff
	b.recon = [2]int32{recon, b.recon[0]}

	b.zero = 0
	for i, d := range b.diffs {
		b.zero += b.zeros[i] * clip16(d*2) >> 15
	}
	b.zero = clip16(b.zero)
	pole := b.poles[0]*clip16(b.recon[0]*2)>>15 + b.poles[1]*clip16(b.recon[1]*2)>>15
	b.pred = clip16(clip16(pole) + b.zero)
}

// adaptPoles moves the two pole coefficients by how the sign of the newest partial
// reconstruction compares with the two before it.
func (b *band) adaptPoles(sameAsLast, sameAsOneBefore bool) {
	first := clip16(b.poles[0] * 4)
	step := int32(-192)
	if sameAsLast {
		first = clip16(-first)
		step = 192
	}
	second := first>>7 - 128
	if sameAsOneBefore {
		second = first>>7 + 128
	}
	b.poles[1] = min(max(second+b.poles[1]*32512>>15, -12288), 12288)
	limit := 15360 - b.poles[1]
	b.poles[0] = min(max(step+b.poles[0]*32640>>15, -limit), limit)
}

// adaptZeros moves the six zero coefficients towards the sign of the product of the
// newest difference and each older one.
func (b *band) adaptZeros(diff int32) {
	for i, old := range b.diffs {
		step := int32(0)
		if diff != 0 {
			step = 128
			if (diff < 0) != (old < 0) {
				step = -128
			}
		}
		b.zeros[i] = step + b.zeros[i]*32640>>15
	}
}

func clip16(v int32) int32 { return min(max(v, -32768), 32767) }
