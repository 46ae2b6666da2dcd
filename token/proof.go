package token

import (
	"crypto/rand"
	"encoding/base64"
)

// NewNonce returns a fresh nonce for a connect token: 16 random bytes, 22 characters.
func NewNonce() string { return random(16) }

// NewSecret returns a secret key for an app or a device: 32 random bytes, 43 characters.
func NewSecret() string { return random(32) }

// random returns n bytes of the system's generator in base64url. crypto/rand
// ends the process rather than return an error.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// DeviceProof is how a device shows that it has secret, its device_secret_key,
// which itself never travels (protocol/device.md, section 1.1). Both nonces are
// the text on the wire. Compare proofs with hmac.Equal.
func DeviceProof(secret, serverNonce, deviceNonce, deviceID, clientID string) string {
	return proof(secret, "turnpike-device-v1\n"+serverNonce+"\n"+deviceNonce+"\n"+deviceID+"\n"+clientID)
}

// ServerProof is how the server shows a device that it has the secret too. The
// device leaves when it does not match.
func ServerProof(secret, deviceNonce, serverNonce string) string {
	return proof(secret, "turnpike-server-v1\n"+deviceNonce+"\n"+serverNonce)
}

func proof(secret, text string) string {
	sum := mac(secret, text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
