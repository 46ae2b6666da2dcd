package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/turnpike-rtc/turnpike/internal/media"
	"github.com/turnpike-rtc/turnpike/internal/signal"
)

// clogged is how many bytes may wait in a data channel before the device counts as busy.
const clogged = 1 << 20

// channels opens the three data channels (protocol/device.md, 4).
func (p *peer) channels() error {
	for _, ch := range []struct {
		label   string
		keep    **webrtc.DataChannel
		receive func([]byte)
	}{
		{signal.ChannelControl, &p.control, p.receiveControl},
		{signal.ChannelCommand, &p.command, p.receiveCommand},
		{signal.ChannelMessage, &p.message, p.receiveMessage},
	} {
		c, err := p.pc.CreateDataChannel(ch.label, nil)
		if err != nil {
			return fmt.Errorf("cannot make data channel: %w", err)
		}
		*ch.keep = c
		c.OnMessage(func(m webrtc.DataChannelMessage) { ch.receive(m.Data) })
		c.OnOpen(func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.unopened--; p.unopened == 0 {
				close(p.open)
			}
		})
	}
	return nil
}

// current returns the peer connection, or ErrNotConnected.
func (c *Conn) current() (*peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peer == nil {
		return nil, ErrNotConnected
	}
	return c.peer, nil
}

// SendCommand sends a command word of 0x2000 or more and up to 65,532 bytes to the
// device. It queues and returns. Errors: ErrReserved, ErrTooLarge, ErrNotConnected,
// and ErrBusy when the device does not read.
func (c *Conn) SendCommand(word uint32, payload []byte) error {
	data, err := signal.EncodeCommand(signal.Command{Word: word, Payload: payload})
	if errors.Is(err, signal.ErrReserved) {
		return fmt.Errorf("cannot send command %#x: %w", word, ErrReserved)
	}
	if err != nil {
		return fmt.Errorf("cannot send command of %d bytes: %w", len(payload), ErrTooLarge)
	}
	p, err := c.current()
	if err != nil {
		return fmt.Errorf("cannot send command: %w", err)
	}
	return transmit(p.command, data)
}

// SendMessage sends data that belongs to a moment of a stream to the device. It queues
// and returns. Errors are those of SendCommand.
func (c *Conn) SendMessage(m Message) error {
	data, err := signal.EncodeStreamMessage(signal.StreamMessage{
		Stream: m.Stream, Flags: m.Flags, Timestamp: m.TimestampMs, Payload: m.Payload,
	})
	if err != nil {
		return fmt.Errorf("cannot send message of %d bytes: %w", len(m.Payload), ErrTooLarge)
	}
	p, err := c.current()
	if err != nil {
		return fmt.Errorf("cannot send message: %w", err)
	}
	return transmit(p.message, data)
}

func transmit(c *webrtc.DataChannel, data []byte) error {
	if c.ReadyState() != webrtc.DataChannelStateOpen {
		return fmt.Errorf("cannot send: data channel is not open: %w", ErrNotConnected)
	}
	if c.BufferedAmount() > clogged {
		return fmt.Errorf("cannot send: %w", ErrBusy)
	}
	if err := c.Send(data); err != nil {
		return fmt.Errorf("cannot send: %w", errors.Join(ErrNotConnected, err))
	}
	return nil
}

// RequestKeyFrame asks the device for a key frame of a stream soon. There is no
// answer but the frame.
func (c *Conn) RequestKeyFrame(stream uint8) error {
	p, err := c.current()
	if err != nil {
		return fmt.Errorf("cannot request key frame: %w", err)
	}
	return p.tell(signal.KeyFrame{Stream: int(stream)})
}

// Subscribe asks the device for a stream and waits for its answer. The stream must
// have an output, which Attach, while connected, subscribes by itself; Subscribe is
// for those who want to know what came of it, or to resume after Unsubscribe. Errors:
// ErrNotConnected, ErrNoStream, ErrSubscription with the device's words.
func (c *Conn) Subscribe(ctx context.Context, stream uint8) error {
	p, err := c.current()
	if err == nil {
		err = p.subscribe(ctx, stream)
	}
	if err != nil {
		return fmt.Errorf("cannot subscribe to stream %d: %w", stream, err)
	}
	return nil
}

// Unsubscribe asks the device to stop a stream and waits for its answer. The output
// stays.
func (c *Conn) Unsubscribe(ctx context.Context, stream uint8) error {
	p, err := c.current()
	if err == nil {
		err = p.unsubscribe(ctx, stream)
	}
	if err != nil {
		return fmt.Errorf("cannot unsubscribe from stream %d: %w", stream, err)
	}
	return nil
}

// want subscribes for an output in the background.
func (p *peer) want(stream uint8) {
	ctx, cancel := context.WithTimeout(p.ctx, requestTimeout)
	defer cancel()
	if err := p.subscribe(ctx, stream); err != nil && p.ctx.Err() == nil {
		p.refused(stream, err)
	}
}

func (p *peer) refused(stream uint8, cause error) {
	p.conn.config.Log.Info("stream is not to be had", "stream", stream, "cause", cause)
	if f := p.conn.config.OnRefused; f != nil {
		p.conn.call(func() { f(stream, cause) })
	}
}

// subscribe asks for a stream, and for a media section first if there is none.
func (p *peer) subscribe(ctx context.Context, stream uint8) error {
	o, _ := p.conn.output(stream)
	if o == nil {
		return errors.New("attach an output first")
	}
	answer, err := p.request(ctx, func(id int64) signal.Message { return signal.Subscribe{ID: id, Stream: int(stream)} })
	if err != nil {
		return err
	}
	if no, ok := answer.(*signal.Refused); ok {
		if no.Code == signal.RefusedRenegotiate {
			return p.renegotiate(ctx, stream, o.kind())
		}
		return refusal(no)
	}
	return nil
}

// refusal turns a refused request into an error.
func refusal(no *signal.Refused) error {
	cause := ErrSubscription
	if no.Code == signal.RefusedNoStream {
		cause = ErrNoStream
	}
	if no.Message == "" {
		return cause
	}
	return fmt.Errorf("%w: %s", cause, no.Message)
}

func (p *peer) unsubscribe(ctx context.Context, stream uint8) error {
	answer, err := p.request(ctx, func(id int64) signal.Message { return signal.Unsubscribe{ID: id, Stream: int(stream)} })
	if err != nil {
		return err
	}
	if no, ok := answer.(*signal.Refused); ok {
		return refusal(no)
	}
	return nil
}

// renegotiate adds a media section for a stream. A section that comes to nothing
// stays, unused: SDP cannot take it back.
func (p *peer) renegotiate(ctx context.Context, stream uint8, kind media.Kind) error {
	p.negotiation.Lock()
	defer p.negotiation.Unlock()
	t, err := p.section(kind, int(stream))
	if err != nil {
		return err
	}
	offer, err := p.pc.CreateOffer(nil)
	if err != nil {
		return fmt.Errorf("cannot make offer: %w", err)
	}
	if err := p.pc.SetLocalDescription(offer); err != nil {
		return fmt.Errorf("cannot make offer: %w", err)
	}
	wanted := p.wanted()
	answer, err := p.request(ctx, func(id int64) signal.Message {
		return signal.ControlOffer{ID: id, SDP: p.pc.LocalDescription().SDP, Streams: &wanted}
	})
	if err != nil {
		return err
	}
	switch m := answer.(type) {
	case *signal.Refused:
		return refusal(m)
	case *signal.ControlAnswer:
		if err := p.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: m.SDP}); err != nil {
			return fmt.Errorf("cannot use the device's answer: %w", err)
		}
		if !carries(m.SDP, t.Mid()) {
			return ErrSubscription
		}
	}
	return nil
}

// carries reports whether a section of an answer sends something.
func carries(answer, mid string) bool {
	var desc sdp.SessionDescription
	if desc.UnmarshalString(answer) != nil {
		return false
	}
	for _, m := range desc.MediaDescriptions {
		if got, _ := m.Attribute("mid"); got == mid {
			_, inactive := m.Attribute("inactive")
			_, recvonly := m.Attribute("recvonly")
			return !inactive && !recvonly && m.MediaName.Port.Value != 0
		}
	}
	return false
}

// tell sends a control message.
func (p *peer) tell(m signal.Message) error {
	data, err := signal.Encode(m)
	if err != nil {
		return err
	}
	if p.control.ReadyState() != webrtc.DataChannelStateOpen {
		return ErrNotConnected
	}
	if err := p.control.SendText(string(data)); err != nil {
		return errors.Join(ErrNotConnected, err)
	}
	return nil
}

// request sends a control message under a new id and waits for the answer with it.
func (p *peer) request(ctx context.Context, message func(id int64) signal.Message) (signal.Message, error) {
	answer := make(chan signal.Message, 1)
	p.mu.Lock()
	p.last++
	id := p.last
	p.pending[id] = answer
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.pending, id)
		p.mu.Unlock()
	}()
	if err := p.tell(message(id)); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.lost:
		return nil, ErrLost
	}
}

// receiveControl acts on a control message (protocol/device.md, 5).
func (p *peer) receiveControl(data []byte) {
	m, err := signal.DecodeControl(data)
	if err != nil {
		p.conn.config.Log.Debug("device sent a bad control message", "error", err)
		return
	}
	var id int64
	switch m := m.(type) {
	case *signal.Streams:
		p.announced(m)
		return
	case *signal.Done:
		id = m.ID
	case *signal.Refused:
		id = m.ID
	case *signal.ControlAnswer:
		id = m.ID
	}
	p.mu.Lock()
	answer := p.pending[id]
	delete(p.pending, id)
	p.mu.Unlock()
	if answer != nil {
		answer <- m // its one slot: nobody else has the channel any more
	}
}

// announced tells the application what there is, and the first time also which of the
// streams it wanted were not given.
func (p *peer) announced(m *signal.Streams) {
	var streams []Stream
	has := make(map[int]bool)
	for _, s := range m.Streams {
		has[s.ID] = true
		streams = append(streams, Stream{uint8(s.ID), Codec(s.Codec), slices.Contains(m.Sending, s.ID)})
	}
	if f := p.conn.config.OnStreams; f != nil {
		p.conn.call(func() { f(streams) })
	}
	p.mu.Lock()
	first := !p.greeted
	p.greeted = true
	p.mu.Unlock()
	if !first {
		return
	}
	for id := range p.offered {
		switch {
		case !has[int(id)]:
			p.refused(id, ErrNoStream)
		case !slices.Contains(m.Sending, int(id)):
			p.refused(id, ErrSubscription)
		}
	}
}

func (p *peer) receiveCommand(data []byte) {
	c, err := signal.DecodeCommand(data)
	if err != nil {
		p.conn.config.Log.Debug("device sent a bad command", "error", err)
		return
	}
	if f := p.conn.config.OnCommand; f != nil {
		p.conn.call(func() { f(c.Word, c.Payload) })
	}
}

func (p *peer) receiveMessage(data []byte) {
	m, err := signal.DecodeStreamMessage(data)
	if err != nil {
		p.conn.config.Log.Debug("device sent a bad message", "error", err)
		return
	}
	if f := p.conn.config.OnMessage; f != nil {
		p.conn.call(func() { f(Message{m.Stream, m.Flags, m.Timestamp, m.Payload}) })
	}
}
