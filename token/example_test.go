package token_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// A back end signs a token for a user it has checked. Real ones use time.Now and
// NewNonce, and keep the two secrets in a safe place.
func ExampleSignConnect() {
	now := time.Unix(1700000000, 0)
	raw, err := token.SignConnect(token.Connect{
		Subject:  "subject-test",
		DeviceID: "device-001",
		Scope:    "connect:device://device-001",
		KeyID:    "ak-test",
		Issued:   now,
		Expires:  now.Add(5 * time.Minute),
		Nonce:    "AAECAwQFBgcICQoLDA0ODw",
	}, token.Secrets{App: "sid-test", Device: "device-secret"})
	fmt.Println(err)
	fmt.Println(raw[len(raw)-43:])
	// Output:
	// <nil>
	// ttJRiSYSBjJIMXLi9ZTufCjaxPHYojtkH6VProqdB1U
}

// Reading comes first, so that the verifier knows which secrets to fetch.
func ExampleParsedConnect_Verify() {
	raw := "v1.eyJzdWIiOiJzdWJqZWN0LXRlc3QiLCJzY29wZSI6ImNvbm5lY3Q6ZGV2aWNlOi8vZGV2aWNlLTAwMSIsImlzcyI6ImFrLXRlc3QiLCJp" +
		"YXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDMwMCwibm9uY2UiOiJBQUVDQXdRRkJnY0lDUW9MREEwT0R3In0" +
		".ttJRiSYSBjJIMXLi9ZTufCjaxPHYojtkH6VProqdB1U"
	p, err := token.ParseConnect(raw)
	if err != nil {
		fmt.Println(err)
		return
	}
	secrets := token.Secrets{App: "sid-test", Device: "device-secret"} // of p.KeyID and p.DeviceID

	c, err := p.Verify(secrets, time.Unix(1700000010, 0), token.Policy{})
	fmt.Println(c.Subject, "may connect to", c.DeviceID, err)

	_, err = p.Verify(secrets, time.Unix(1700000330, 0), token.Policy{})
	fmt.Println(errors.Is(err, token.ErrExpired), token.Reason(err))
	// Output:
	// subject-test may connect to device-001 <nil>
	// true expired
}

func ExampleParseRemoteID() {
	id, _ := token.ParseRemoteID(" device://AABBCCDDEEFF ")
	fmt.Println(id)
	_, err := token.ParseRemoteID("https://AABBCCDDEEFF")
	fmt.Println(err)
	// Output:
	// AABBCCDDEEFF
	// cannot read remote id: want a device id or device://<id>: credential is malformed
}
