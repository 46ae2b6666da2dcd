package signal

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

const (
	nonce32 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
	nonce16 = "AAECAwQFBgcICQoLDA0ODw"
)

// deviceMessages has one good message of every type of the device's WebSocket.
func deviceMessages() []Message {
	servers := []ICEServer{{URLs: []string{"stun:203.0.113.1:5082"}}}
	return []Message{
		&Challenge{Nonce: nonce32, Time: 1700000000},
		&Hello{DeviceID: "AABBCCDDEEFF", ClientID: "00:11:22:33:44:55", Nonce: nonce16, Proof: nonce32,
			Version: "turnpike-go/1.0", Sessions: []string{"s1"}},
		&Welcome{Proof: nonce32, Epoch: 7, Keepalive: 25, SessionLease: 120, ICEServers: servers, End: []string{"s1"}},
		&Offer{Session: "s1", SDP: "v=0\r\n", Subject: "user-17", ICEServers: servers, Streams: &Wanted{Video: []int{0}, Audio: []int{1}}},
		&Answer{Session: "s1", SDP: "v=0\r\n"},
		&Refuse{Session: "s1", Code: "busy", Message: "four viewers already"},
		&Candidate{Session: "s1", Fragment: "a=end-of-candidates\r\n"},
		&Connected{Session: "s1", Path: PathDirect},
		&Closed{Session: "s1", Reason: "remote"},
		&End{Session: "s1", Reason: "revoked"},
		&Drain{AfterMS: 0},
		&Error{Code: "unknown_type", Message: "never heard of it"},
	}
}

// controlMessages has one good message of every type of the control channel.
func controlMessages() []Message {
	return []Message{
		&Streams{Streams: []Stream{{ID: 0, Kind: "video", Codec: "H264"}, {ID: 1, Kind: "audio", Codec: "PCMA", Rate: 8000}}, Sending: []int{0}},
		&Subscribe{ID: 0, Stream: 0},
		&Unsubscribe{ID: 2, Stream: 1},
		&KeyFrame{Stream: 0},
		&Done{ID: 1},
		&Refused{ID: 1, Code: RefusedRenegotiate},
		&ControlOffer{ID: 3, SDP: "v=0\r\n", Streams: &Wanted{Video: []int{2}}},
		&ControlAnswer{ID: 3, SDP: "v=0\r\n"},
	}
}

func TestEveryMessageSurvivesTheWire(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []Message
		decode   func([]byte) (Message, error)
	}{{"device", deviceMessages(), Decode}, {"control", controlMessages(), DecodeControl}} {
		for _, m := range c.messages {
			t.Run(c.name+"/"+m.Type(), func(t *testing.T) {
				wire, err := Encode(m)
				if err != nil {
					t.Fatal(err)
				}
				back, err := c.decode(wire)
				if err != nil || !reflect.DeepEqual(back, m) {
					t.Fatalf("decode(%s) = %+v, %v", wire, back, err)
				}
			})
		}
	}
}

func TestWritesTheSpecifiedText(t *testing.T) {
	for want, m := range map[string]Message{
		`{"type":"challenge","nonce":"` + nonce32 + `","time":1700000000}`: Challenge{Nonce: nonce32, Time: 1700000000},
		`{"type":"drain","after_ms":0}`:                                    Drain{},
		`{"type":"key_frame","stream":3}`:                                  KeyFrame{Stream: 3},
		`{"type":"streams","streams":[],"sending":[0,1]}`:                  Streams{Streams: []Stream{}, Sending: []int{0, 1}},
	} {
		if got, err := Encode(m); err != nil || string(got) != want {
			t.Errorf("Encode = %s, %v; want %s", got, err, want)
		}
	}
}

func TestIgnoresUnknownMembers(t *testing.T) {
	m, err := Decode([]byte(` {"later":{"a":[1]},"reason":"remote","type":"closed","session":"s1","x":null} `))
	if err != nil || !reflect.DeepEqual(m, &Closed{Session: "s1", Reason: "remote"}) {
		t.Errorf("Decode = %+v, %v", m, err)
	}
}

func TestReportsUnknownTypes(t *testing.T) {
	if _, err := Decode([]byte(`{"type":"subscribe","id":1,"stream":1}`)); !errors.Is(err, ErrUnknownType) {
		t.Errorf("a control message on the WebSocket: %v", err)
	}
	if _, err := DecodeControl([]byte(`{"type":"telepathy"}`)); !errors.Is(err, ErrUnknownType) {
		t.Errorf("a message from the future: %v", err)
	}
}

func TestRefusesMalformedMessages(t *testing.T) {
	hello := `{"type":"hello","device_id":"A","client_id":"c","nonce":"` + nonce16 + `","proof":"` + nonce32 + `"}`
	if _, err := Decode([]byte(hello)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":               ``,
		"not JSON":            `hello`,
		"not an object":       `["hello"]`,
		"null":                `null`,
		"two objects":         hello + hello,
		"no type":             `{"device_id":"A"}`,
		"type is a number":    `{"type":7}`,
		"no device id":        strings.Replace(hello, "device_id", "devise", 1),
		"foreign device id":   strings.Replace(hello, `"A"`, `"a b"`, 1),
		"long device id":      strings.Replace(hello, `"A"`, `"`+strings.Repeat("A", 33)+`"`, 1),
		"control in client":   strings.Replace(hello, `"c"`, `"c\n"`, 1),
		"short nonce":         strings.Replace(hello, nonce16, "AAAA", 1),
		"padded nonce":        strings.Replace(hello, nonce16, nonce16+"==", 1),
		"nonce, odd bits":     strings.Replace(hello, nonce16, nonce16[:21]+"x", 1),
		"line break in nonce": strings.Replace(hello, nonce16, nonce16[:11]+`\n`+nonce16[11:], 1),
		"short proof":         strings.Replace(hello, nonce32, nonce16, 1),
		"sessions no list":    strings.Replace(hello, `}`, `,"sessions":"s"}`, 1),
		"wild session":        strings.Replace(hello, `}`, `,"sessions":["../x"]}`, 1),
		"answer without SDP":  `{"type":"answer","session":"s"}`,
		"huge SDP":            `{"type":"answer","session":"s","sdp":"` + strings.Repeat("a", MaxSDP+1) + `"}`,
		"huge message":        `{"type":"closed","session":"s","reason":"remote","x":"` + strings.Repeat("a", MaxMessage) + `"}`,
		"negative drain":      `{"type":"drain","after_ms":-1}`,
		"drain without time":  `{"type":"drain"}`,
		"reason as sentence":  `{"type":"closed","session":"s","reason":"it broke"}`,
	} {
		if m, err := Decode([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Decode = %+v, %v", name, m, err)
		}
	}
}

func TestRefusesMalformedControlMessages(t *testing.T) {
	for name, text := range map[string]string{
		"subscribe without stream": `{"type":"subscribe","id":1}`,
		"subscribe, null stream":   `{"type":"subscribe","id":1,"stream":null}`,
		"subscribe without id":     `{"type":"subscribe","stream":1}`,
		"stream out of range":      `{"type":"subscribe","id":1,"stream":256}`,
		"negative stream":          `{"type":"key_frame","stream":-1}`,
		"fractional id":            `{"type":"done","id":1.5}`,
		"id beyond exact numbers":  `{"type":"done","id":9007199254740992}`,
		"refused without code":     `{"type":"refused","id":1}`,
		"smell-o-vision":           `{"type":"streams","streams":[{"id":1,"kind":"smell","codec":"x"}]}`,
		"too many streams":         `{"type":"streams","streams":[],"sending":[` + strings.Repeat("1,", MaxStreams) + `1]}`,
		"offer without SDP":        `{"type":"offer","id":1}`,
	} {
		if m, err := DecodeControl([]byte(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: DecodeControl = %+v, %v", name, m, err)
		}
	}
}

func TestEncodeHoldsTheSenderToTheLimits(t *testing.T) {
	for _, m := range []Message{
		Answer{Session: "s", SDP: strings.Repeat("a", MaxSDP+1)},
		Answer{Session: "s", SDP: strings.Repeat("\x01", MaxSDP)}, // six bytes each once escaped
		Offer{Session: "not an id", SDP: "v=0"},
		Closed{Session: "s"},
	} {
		if _, err := Encode(m); !errors.Is(err, ErrMalformed) {
			t.Errorf("Encode(%s): %v", m.Type(), err)
		}
	}
}

func TestCommandsSurviveTheWire(t *testing.T) {
	for _, c := range []Command{{Word: 0x2000, Payload: []byte{}}, {Word: 0xffffffff, Payload: []byte("pan left")}} {
		wire, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCommand(wire)
		if err != nil || back.Word != c.Word || !bytes.Equal(back.Payload, c.Payload) {
			t.Errorf("DecodeCommand(%x) = %v, %v", wire, back, err)
		}
	}
	if wire, _ := EncodeCommand(Command{Word: 0x10000, Payload: []byte("x")}); string(wire) != "\x00\x01\x00\x00x" {
		t.Errorf("wire form %x", wire)
	}
}

func TestRefusesReservedAndOversizedCommands(t *testing.T) {
	if _, err := EncodeCommand(Command{Word: 0x1fff}); !errors.Is(err, ErrReserved) {
		t.Errorf("encoding a reserved word: %v", err)
	}
	if _, err := DecodeCommand([]byte{0, 0, 0x1f, 0xff}); !errors.Is(err, ErrReserved) {
		t.Errorf("decoding a reserved word: %v", err)
	}
	if _, err := EncodeCommand(Command{Word: 0x2000, Payload: make([]byte, MaxCommandPayload+1)}); !errors.Is(err, ErrMalformed) {
		t.Errorf("encoding too much: %v", err)
	}
	if _, err := DecodeCommand([]byte{1, 2, 3}); !errors.Is(err, ErrMalformed) {
		t.Errorf("decoding too little: %v", err)
	}
}

func TestStreamMessagesSurviveTheWire(t *testing.T) {
	m := StreamMessage{Stream: 12, Flags: 1, Timestamp: 0xfffffffe, Payload: []byte("gps")}
	wire, err := EncodeStreamMessage(m)
	if err != nil || string(wire) != "\x0c\x01\x00\x00\xff\xff\xff\xfegps" {
		t.Fatalf("EncodeStreamMessage = %x, %v", wire, err)
	}
	if back, err := DecodeStreamMessage(wire); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("DecodeStreamMessage = %+v, %v", back, err)
	}
	if _, err := DecodeStreamMessage(wire[:7]); !errors.Is(err, ErrMalformed) {
		t.Errorf("decoding too little: %v", err)
	}
	if _, err := EncodeStreamMessage(StreamMessage{Payload: make([]byte, MaxStreamMessagePayload+1)}); !errors.Is(err, ErrMalformed) {
		t.Errorf("encoding too much: %v", err)
	}
}
