package device

import (
	"errors"
	"fmt"

	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// clogged is how many bytes may wait in a data channel before it counts as not read.
const clogged = 1 << 20

// SendCommand sends a command word of 0x2000 or more and up to 65,532 bytes. It
// queues and returns. Errors: ErrReserved, ErrTooLarge; ErrNotOpen when the viewer
// has no command channel; ErrBusy when it does not read.
func (v *Viewer) SendCommand(word uint32, payload []byte) error {
	data, err := signal.EncodeCommand(signal.Command{Word: word, Payload: payload})
	if errors.Is(err, signal.ErrReserved) {
		return fmt.Errorf("cannot send command %#x: %w", word, ErrReserved)
	}
	if err != nil {
		return fmt.Errorf("cannot send command of %d bytes: %w", len(payload), ErrTooLarge)
	}
	return v.transmit(signal.ChannelCommand, data)
}

// SendMessage sends data that belongs to a moment of a stream. It queues and returns.
// Errors: ErrTooLarge, ErrNotOpen, ErrBusy, as for SendCommand.
func (v *Viewer) SendMessage(m Message) error {
	data, err := signal.EncodeStreamMessage(signal.StreamMessage{
		Stream: m.Stream, Flags: m.Flags, Timestamp: m.TimestampMs, Payload: m.Payload,
	})
	if err != nil {
		return fmt.Errorf("cannot send message of %d bytes: %w", len(m.Payload), ErrTooLarge)
	}
	return v.transmit(signal.ChannelMessage, data)
}

// transmit queues data on one of the three channels.
func (v *Viewer) transmit(label string, data []byte) error {
	v.mu.Lock()
	c := v.channels[label]
	v.mu.Unlock()
	if c == nil || c.ReadyState() != webrtc.DataChannelStateOpen {
		return fmt.Errorf("cannot send to %s: %w", v.id, ErrNotOpen)
	}
	if c.BufferedAmount() > clogged {
		return fmt.Errorf("cannot send to %s: %w", v.id, ErrBusy)
	}
	if err := c.Send(data); err != nil {
		return fmt.Errorf("cannot send to %s: %w", v.id, errors.Join(ErrNotOpen, err))
	}
	return nil
}

// open takes a data channel of the client. Others than the three are left alone, and
// so is a second one of the same name.
func (v *Viewer) open(c *webrtc.DataChannel) {
	label := c.Label()
	var receive func([]byte)
	switch label {
	case signal.ChannelControl:
		receive = v.receiveControl
	case signal.ChannelCommand:
		receive = v.receiveCommand
	case signal.ChannelMessage:
		receive = v.receiveMessage
	default:
		return
	}
	v.mu.Lock()
	taken := v.channels[label] != nil
	if !taken {
		v.channels[label] = c
	}
	v.mu.Unlock()
	if taken {
		return
	}
	c.OnMessage(func(m webrtc.DataChannelMessage) { receive(m.Data) })
	if label == signal.ChannelControl {
		c.OnOpen(v.announce)
	}
}

func (v *Viewer) receiveCommand(data []byte) {
	c, err := signal.DecodeCommand(data)
	if err != nil {
		v.log.Debug("client sent a bad command", "error", err)
		return
	}
	if f := v.device.config.OnCommand; f != nil {
		v.call(func() { f(v, c.Word, c.Payload) })
	}
}

func (v *Viewer) receiveMessage(data []byte) {
	m, err := signal.DecodeStreamMessage(data)
	if err != nil {
		v.log.Debug("client sent a bad message", "error", err)
		return
	}
	if f := v.device.config.OnMessage; f != nil {
		v.call(func() { f(v, Message{m.Stream, m.Flags, m.Timestamp, m.Payload}) })
	}
}

// receiveControl carries out a control message (protocol/device.md, 5).
func (v *Viewer) receiveControl(data []byte) {
	m, err := signal.DecodeControl(data)
	if err != nil {
		v.log.Debug("client sent a bad control message", "error", err)
		return
	}
	switch m := m.(type) {
	case *signal.Subscribe:
		v.answerRequest(m.ID, v.subscribe(m.Stream))
	case *signal.Unsubscribe:
		v.answerRequest(m.ID, v.unsubscribe(m.Stream))
	case *signal.KeyFrame:
		if s := v.device.stream(m.Stream); s != nil {
			s.requestKeyFrame()
		}
	case *signal.ControlOffer:
		v.renegotiate(m)
	}
}

// answerRequest sends done, or refused when err is a refusal, and what is sent now.
func (v *Viewer) answerRequest(id int64, err error) {
	var no refusal
	if errors.As(err, &no) {
		v.tell(signal.Refused{ID: id, Code: no.code, Message: no.message})
		return
	}
	v.tell(signal.Done{ID: id})
	v.announce()
}

// tell sends a control message. If the channel is gone, so is the viewer.
func (v *Viewer) tell(m signal.Message) {
	data, err := signal.Encode(m)
	if err != nil {
		v.log.Error("cannot send control message", "error", err)
		return
	}
	v.mu.Lock()
	c := v.channels[signal.ChannelControl]
	v.mu.Unlock()
	if c == nil {
		return
	}
	if err := c.SendText(string(data)); err != nil {
		v.log.Debug("cannot send control message", "error", err)
	}
}

// announce says what streams there are and which of them are sent.
func (v *Viewer) announce() {
	var m signal.Streams
	for _, s := range v.device.streams {
		m.Streams = append(m.Streams, signal.Stream{
			ID: int(s.id), Kind: string(s.wire.Kind()), Codec: string(s.wire), Rate: s.wire.SampleRate(),
		})
	}
	v.mu.Lock()
	for _, s := range v.sections {
		if s.sending {
			m.Sending = append(m.Sending, int(s.track.stream.id))
		}
	}
	v.mu.Unlock()
	v.tell(m)
}

// subscribe begins to send a stream for which there is a section.
func (v *Viewer) subscribe(id int) error {
	s := v.device.stream(id)
	if s == nil {
		return refusal{signal.RefusedNoStream, "the device has no such stream"}
	}
	v.mu.Lock()
	sec := v.section(id)
	sending := sec != nil && sec.sending
	v.mu.Unlock()
	switch {
	case sending:
		return nil
	case sec == nil:
		return refusal{signal.RefusedRenegotiate, "the stream needs a media section"}
	}
	if err := v.allows(s); err != nil {
		return refusal{signal.RefusedByApp, short(err.Error())}
	}
	v.mu.Lock()
	sec.sending = true
	v.mu.Unlock()
	v.feed(sec)
	return nil
}

// unsubscribe stops sending a stream. Its section stays.
func (v *Viewer) unsubscribe(id int) error {
	v.mu.Lock()
	sec := v.section(id)
	stop := sec != nil && sec.sending
	if stop {
		sec.sending = false
	}
	v.mu.Unlock()
	if !stop {
		return nil
	}
	sec.track.stream.leave(sec.track)
	sec.track.clear()
	if f := v.device.config.OnUnsubscribe; f != nil {
		v.call(func() { f(v, uint8(id)) })
	}
	return nil
}

// renegotiate answers a later offer. A new section whose stream the application
// refuses stays inactive.
func (v *Viewer) renegotiate(o *signal.ControlOffer) {
	sections, err := parseOffer(o.SDP)
	var answer string
	if err == nil {
		answer, err = v.negotiate(o.SDP, sections, o.Streams)
	}
	if err != nil {
		v.log.Info("later offer refused", "cause", err)
		v.tell(signal.Refused{ID: o.ID, Code: signal.RefusedByApp, Message: "the offer cannot be used"})
		return
	}
	v.tell(signal.ControlAnswer{ID: o.ID, SDP: answer})
	v.announce()
}

// short cuts a text to what a control message may carry.
func short(s string) string {
	if len(s) > signal.MaxText {
		s = s[:signal.MaxText]
	}
	return s
}
