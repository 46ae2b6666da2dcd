package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"
)

// reference is crypto/hmac's word.
func reference(key string, text []byte) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write(text)
	return h.Sum(nil)
}

func TestMacIsHMAC(t *testing.T) {
	for _, keyLength := range []int{0, 1, 32, 43, 63, 64, 65, 128, 1000} {
		for _, textLength := range []int{0, 1, 55, 56, 64, 300, MaxConnect, MaxConnect + 1, 10_000} {
			key, text := string(bytes.Repeat([]byte("k"), keyLength)), bytes.Repeat([]byte("t"), textLength)
			if got := mac(key, text); !bytes.Equal(got[:], reference(key, text)) {
				t.Errorf("mac of %d bytes with a key of %d differs from crypto/hmac", textLength, keyLength)
			}
		}
	}
}

func TestSignatureAllocatesNothing(t *testing.T) {
	key, text := "a secret key of the usual forty-three bytes", make([]byte, 300)
	if n := testing.AllocsPerRun(100, func() { mac(key, text) }); n != 0 {
		t.Errorf("a signature allocates %v times", n)
	}
}

func FuzzMac(f *testing.F) {
	f.Add("key", []byte("text"))
	f.Fuzz(func(t *testing.T, key string, text []byte) {
		if got := mac(key, text); !bytes.Equal(got[:], reference(key, text)) {
			t.Error("differs from crypto/hmac")
		}
	})
}
