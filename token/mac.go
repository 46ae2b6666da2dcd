package token

import "crypto/sha256"

// mac is HMAC-SHA256 (RFC 2104) on the stack. crypto/hmac allocates seven times for
// each call, which at a door that refuses floods of tokens is most of the garbage.
func mac[T string | []byte](key string, text T) [sha256.Size]byte {
	const block = sha256.BlockSize
	var padded [block]byte
	if len(key) > block {
		sum := sha256.Sum256([]byte(key))
		copy(padded[:], sum[:])
	} else {
		copy(padded[:], key)
	}
	var room [block + MaxConnect]byte // longer texts go to the heap
	inner := room[:block]
	var outer [block + sha256.Size]byte
	for i, k := range padded {
		inner[i], outer[i] = k^0x36, k^0x5c
	}
	sum := sha256.Sum256(append(inner, text...))
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}
