package media

// DecodeALaw expands one A-law octet (ITU-T G.711, table 1a) to a linear sample.
// G.711 has 13-bit samples; they are returned as 16-bit ones, as everywhere.
func DecodeALaw(octet byte) int16 {
	v := octet ^ 0x55 // even bits are inverted on the line
	mantissa, segment := int16(v&0x0f), v>>4&7
	sample := mantissa<<4 + 8
	if segment > 0 {
		sample = (sample + 0x100) << (segment - 1)
	}
	if v&0x80 == 0 {
		return -sample
	}
	return sample
}

// EncodeALaw compresses one linear sample. It is the inverse of DecodeALaw: each
// octet comes back from its own sample.
func EncodeALaw(sample int16) byte {
	sign := byte(0x80)
	magnitude := int32(sample)
	if sample < 0 {
		sign, magnitude = 0, -magnitude-1 // -1 falls into the same step as 0 does above
	}
	segment := byte(0)
	for m := magnitude >> 8; m > 0; m >>= 1 {
		segment++
	}
	shift := max(segment, 1) + 3
	mantissa := byte(magnitude>>shift) & 0x0f
	return (sign | segment<<4 | mantissa) ^ 0x55
}
