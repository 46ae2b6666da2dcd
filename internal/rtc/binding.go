package rtc

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v4"
)

const (
	stunHeader  = 20         // RFC 8489, 5
	magicCookie = 0x2112a442 //
	maxPacket   = 1500       // a longer request has no business here
	maxAnswer   = 64         // the longest answer
	maxUnknown  = 4          // attributes named in a 420
)

// looksLikeRequest is the cheap part of the check, before the source is charged:
// a header of the method Binding and the class request, and a matching length.
func looksLikeRequest(b []byte) bool {
	return len(b) >= stunHeader && b[0] == 0 && b[1] == 1 &&
		binary.BigEndian.Uint32(b[4:]) == magicCookie &&
		int(binary.BigEndian.Uint16(b[2:])) == len(b)-stunHeader
}

// bindingAnswer appends the answer to a Binding request: the source address (RFC
// 8489, 14.2), or 420 when the request has attributes that must be understood
// and are not (6.3.1). Whatever else arrives is not answered.
func bindingAnswer(out, packet []byte, from netip.AddrPort) ([]byte, bool) {
	if !looksLikeRequest(packet) {
		return nil, false
	}
	m := stun.Message{Raw: packet}
	if m.Decode() != nil || m.Type != stun.BindingRequest {
		return nil, false
	}
	if unknown := unknownAttributes(m.Attributes); unknown != nil {
		return appendUnknown(appendHeader(out, 0x0111, packet), unknown), true
	}
	return appendMapped(appendHeader(out, 0x0101, packet), from, packet[4:stunHeader]), true
}

// unknownAttributes lists comprehension-required attributes (below 0x8000) that
// mean nothing to a plain Binding request. Credentials are not asked for, so
// those that are offered are ignored.
func unknownAttributes(all stun.Attributes) (unknown []stun.AttrType) {
	for _, a := range all {
		switch a.Type {
		case stun.AttrUsername, stun.AttrMessageIntegrity, stun.AttrMessageIntegritySHA256,
			stun.AttrUserhash, stun.AttrRealm, stun.AttrNonce, stun.AttrPriority, stun.AttrUseCandidate:
			continue
		}
		if a.Type < 0x8000 && len(unknown) < maxUnknown {
			unknown = append(unknown, a.Type)
		}
	}
	return unknown
}

// appendHeader writes a header of the given type that echoes the request's cookie
// and transaction id. The length is patched by finish.
func appendHeader(out []byte, kind uint16, request []byte) []byte {
	out = binary.BigEndian.AppendUint16(out, kind)
	out = binary.BigEndian.AppendUint16(out, 0)
	return append(out, request[4:stunHeader]...)
}

// appendMapped writes XOR-MAPPED-ADDRESS. mask is the cookie and the transaction id.
func appendMapped(out []byte, from netip.AddrPort, mask []byte) []byte {
	ip := from.Addr().AsSlice()
	family := byte(1)
	if len(ip) == 16 {
		family = 2
	}
	out = binary.BigEndian.AppendUint16(out, uint16(stun.AttrXORMappedAddress))
	out = binary.BigEndian.AppendUint16(out, uint16(4+len(ip)))
	out = append(out, 0, family)
	out = binary.BigEndian.AppendUint16(out, from.Port()^uint16(magicCookie>>16))
	for i, b := range ip {
		out = append(out, b^mask[i])
	}
	return finish(out)
}

// appendUnknown writes ERROR-CODE 420, without the optional phrase, and
// UNKNOWN-ATTRIBUTES, padded to four bytes.
func appendUnknown(out []byte, unknown []stun.AttrType) []byte {
	out = binary.BigEndian.AppendUint16(out, uint16(stun.AttrErrorCode))
	out = append(out, 0, 4, 0, 0, 4, 20)
	out = binary.BigEndian.AppendUint16(out, uint16(stun.AttrUnknownAttributes))
	out = binary.BigEndian.AppendUint16(out, uint16(2*len(unknown)))
	for _, a := range unknown {
		out = binary.BigEndian.AppendUint16(out, uint16(a))
	}
	if len(unknown)%2 == 1 {
		out = append(out, 0, 0)
	}
	return finish(out)
}

func finish(out []byte) []byte {
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)-stunHeader))
	return out
}
