package signal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// FirstWord is the first command word an application may use; those below
// are reserved and never sent (section 4).
const FirstWord = 0x2000

// Sizes of the headers in front of payloads, and the largest payloads.
const (
	commandHeader       = 4
	streamMessageHeader = 8

	MaxCommandPayload       = MaxMessage - commandHeader
	MaxStreamMessagePayload = MaxMessage - streamMessageHeader
)

// ErrReserved is a command word below FirstWord.
var ErrReserved = errors.New("command word is reserved")

// Command is a 32-bit word and a payload that nothing between the two
// applications interprets.
type Command struct {
	Word    uint32
	Payload []byte
}

// EncodeCommand writes a command as one data-channel message.
func EncodeCommand(c Command) ([]byte, error) {
	if c.Word < FirstWord {
		return nil, fmt.Errorf("cannot encode command %#x: %w", c.Word, ErrReserved)
	}
	if len(c.Payload) > MaxCommandPayload {
		return nil, fmt.Errorf("cannot encode command of %d bytes, at most %d: %w", len(c.Payload), MaxCommandPayload, ErrMalformed)
	}
	out := make([]byte, commandHeader, commandHeader+len(c.Payload))
	binary.BigEndian.PutUint32(out, c.Word)
	return append(out, c.Payload...), nil
}

// DecodeCommand reads a command. The payload shares memory with data.
func DecodeCommand(data []byte) (Command, error) {
	if len(data) < commandHeader || len(data) > MaxMessage {
		return Command{}, fmt.Errorf("cannot decode command of %d bytes: %w", len(data), ErrMalformed)
	}
	word := binary.BigEndian.Uint32(data)
	if word < FirstWord {
		return Command{}, fmt.Errorf("cannot decode command %#x: %w", word, ErrReserved)
	}
	return Command{word, data[commandHeader:]}, nil
}

// StreamMessage is a piece of data that belongs to a moment of a stream.
type StreamMessage struct {
	Stream    uint8
	Flags     uint8  // the application's
	Timestamp uint32 // milliseconds, on the stream's clock
	Payload   []byte
}

// EncodeStreamMessage writes a stream message as one data-channel message.
func EncodeStreamMessage(m StreamMessage) ([]byte, error) {
	if len(m.Payload) > MaxStreamMessagePayload {
		return nil, fmt.Errorf("cannot encode stream message of %d bytes, at most %d: %w",
			len(m.Payload), MaxStreamMessagePayload, ErrMalformed)
	}
	out := make([]byte, streamMessageHeader, streamMessageHeader+len(m.Payload))
	out[0], out[1] = m.Stream, m.Flags
	binary.BigEndian.PutUint32(out[4:], m.Timestamp)
	return append(out, m.Payload...), nil
}

// DecodeStreamMessage reads a stream message. The two reserved bytes are not
// looked at, so that they can get a meaning. The payload shares memory with data.
func DecodeStreamMessage(data []byte) (StreamMessage, error) {
	if len(data) < streamMessageHeader || len(data) > MaxMessage {
		return StreamMessage{}, fmt.Errorf("cannot decode stream message of %d bytes: %w", len(data), ErrMalformed)
	}
	return StreamMessage{
		Stream:    data[0],
		Flags:     data[1],
		Timestamp: binary.BigEndian.Uint32(data[4:]),
		Payload:   data[streamMessageHeader:],
	}, nil
}
