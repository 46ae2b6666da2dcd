// Package signal is the language of devices: the messages a device and the server
// exchange over the device's WebSocket, the control messages a device and its
// client exchange over a data channel, and the framing of commands and stream
// messages. protocol/device.md is the specification; sections are cited here.
//
// It is pure: bytes to values and back, with every size and form checked on the
// way in and on the way out. Members it does not know are ignored, so that
// either side may be newer; a type it does not know is reported as
// [ErrUnknownType], so that the receiver can say so and carry on.
package signal

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Subprotocol is the WebSocket subprotocol of the device's connection.
const Subprotocol = "turnpike.device.v1"

// Limits, in bytes unless a name says otherwise.
const (
	MaxMessage  = 65536 // one message, on the WebSocket and on every data channel
	MaxSDP      = 32768 // an offer or an answer
	MaxFragment = 8192  // an SDP fragment with candidates
	MaxSession  = 64    // a session id
	MaxDeviceID = 32
	MaxClientID = 64 // the physical identity of a device
	MaxVersion  = 128
	MaxSubject  = 256
	MaxCode     = 64  // a code or a reason
	MaxText     = 512 // a message for people
	MaxStreams  = 64  // entries in a list of streams
	MaxServers  = 16  // entries in a list of ICE servers
	MaxSessions = 1000
)

// Close codes of the device's WebSocket (section 1.1).
const (
	CloseMalformed = 4400 // a message that is not JSON or lacks what its type needs
	CloseRefused   = 4401 // unknown device, disabled device or wrong proof: not told which
	CloseConflict  = 4403 // the device id is bound to another client_id
	CloseTimeout   = 4408 // no hello, or no sign of life, in time
	CloseReplaced  = 4409 // the same device started again elsewhere
	CloseSlowDown  = 4429 // too many attempts
	CloseDraining  = 4503 // the server goes away, or is full
)

// ErrMalformed is a message that is not what its type promises.
var ErrMalformed = errors.New("message is malformed")

// ErrUnknownType is a well-formed message of a type this version does not know.
var ErrUnknownType = errors.New("message type is not known")

// Message is one of the message structs of this package.
type Message interface {
	Type() string // as on the wire
	check() error
}

// needy is a message with members that must be there although their zero value
// is a good one, or that decide what the message means.
type needy interface{ needs() []string }

// Encode writes a message as it goes over the wire. It fails when the message
// breaks a limit, which is the sender's mistake.
func Encode(m Message) ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.Type(), err)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", m.Type(), err)
	}
	head := `{"type":"` + m.Type() + `"`
	if len(body) > len("{}") {
		head += ","
	}
	out := append([]byte(head), body[1:]...)
	if len(out) > MaxMessage {
		return nil, fmt.Errorf("cannot encode %s: %d bytes, at most %d: %w", m.Type(), len(out), MaxMessage, ErrMalformed)
	}
	return out, nil
}

// Decode reads a message from the device's WebSocket (section 1). The result is
// a pointer to one of the structs. Errors are ErrMalformed or ErrUnknownType.
func Decode(data []byte) (Message, error) { return decode(data, blank) }

// DecodeControl reads a message from the control channel (section 5). The result
// is a pointer to one of the structs. Errors are ErrMalformed or ErrUnknownType.
func DecodeControl(data []byte) (Message, error) { return decode(data, blankControl) }

func decode(data []byte, blank func(string) Message) (Message, error) {
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("cannot decode message of %d bytes: %w", len(data), ErrMalformed)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fmt.Errorf("cannot decode message: not a JSON object: %w", ErrMalformed)
	}
	var kind string
	if err := json.Unmarshal(members["type"], &kind); err != nil || kind == "" {
		return nil, fmt.Errorf("cannot decode message: no type: %w", ErrMalformed)
	}
	m := blank(kind)
	if m == nil {
		return nil, fmt.Errorf("cannot decode message: %w", ErrUnknownType)
	}
	if n, ok := m.(needy); ok {
		for _, name := range n.needs() {
			if raw := members[name]; raw == nil || string(raw) == "null" {
				return nil, fmt.Errorf("cannot decode %s: no %s: %w", kind, name, ErrMalformed)
			}
		}
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("cannot decode %s: a member has the wrong form: %w", kind, ErrMalformed)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("cannot decode %s: %w", kind, err)
	}
	return m, nil
}
