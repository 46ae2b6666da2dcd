package signal

// The labels of the data channels a client opens (section 4).
const (
	ChannelControl = "turnpike.control"
	ChannelCommand = "turnpike.command"
	ChannelMessage = "turnpike.message"
)

// Stream describes one stream a device has.
type Stream struct {
	ID    int    `json:"id"`             // 0 to 255
	Kind  string `json:"kind"`           // "video" or "audio"
	Codec string `json:"codec"`          // "H264", "PCMA", "G722"
	Rate  int    `json:"rate,omitempty"` // samples per second, for audio
}

// Streams says what a device has; it is the first control message, and comes
// again whenever something changes (section 5).
type Streams struct {
	Streams []Stream `json:"streams"`
	Sending []int    `json:"sending,omitempty"` // ids it sends to this client
}

// Subscribe asks for a stream.
type Subscribe struct {
	ID     int64 `json:"id"` // chosen by the client; the answer carries it
	Stream int   `json:"stream"`
}

// Unsubscribe asks to stop a stream.
type Unsubscribe struct {
	ID     int64 `json:"id"`
	Stream int   `json:"stream"`
}

// KeyFrame asks for a decodable start of a stream soon.
type KeyFrame struct {
	Stream int `json:"stream"`
}

// Done says that the request with this id was carried out.
type Done struct {
	ID int64 `json:"id"`
}

// Refused says that the request with this id was not carried out.
type Refused struct {
	ID      int64  `json:"id"`
	Code    string `json:"code"` // RefusedNoStream, RefusedByApp, RefusedRenegotiate
	Message string `json:"message,omitempty"`
}

// Codes of Refused.
const (
	RefusedNoStream    = "no_such_stream"
	RefusedByApp       = "refused"
	RefusedRenegotiate = "renegotiate" // the stream needs a media section: add a transceiver and offer
)

// ControlOffer is a client's later offer, when it wants streams for which it has
// no media section yet.
type ControlOffer struct {
	ID      int64   `json:"id"`
	SDP     string  `json:"sdp"`
	Streams *Wanted `json:"streams,omitempty"`
}

// ControlAnswer answers a ControlOffer.
type ControlAnswer struct {
	ID  int64  `json:"id"`
	SDP string `json:"sdp"`
}

// Type is the word on the wire.
func (Streams) Type() string { return "streams" }

// Type is the word on the wire.
func (Subscribe) Type() string { return "subscribe" }

// Type is the word on the wire.
func (Unsubscribe) Type() string { return "unsubscribe" }

// Type is the word on the wire.
func (KeyFrame) Type() string { return "key_frame" }

// Type is the word on the wire.
func (Done) Type() string { return "done" }

// Type is the word on the wire.
func (Refused) Type() string { return "refused" }

// Type is the word on the wire.
func (ControlOffer) Type() string { return "offer" }

// Type is the word on the wire.
func (ControlAnswer) Type() string { return "answer" }

func (Subscribe) needs() []string     { return []string{"id", "stream"} }
func (Unsubscribe) needs() []string   { return []string{"id", "stream"} }
func (KeyFrame) needs() []string      { return []string{"stream"} }
func (Done) needs() []string          { return []string{"id"} }
func (Refused) needs() []string       { return []string{"id"} }
func (ControlOffer) needs() []string  { return []string{"id"} }
func (ControlAnswer) needs() []string { return []string{"id"} }

func (m Streams) check() error {
	if err := between("streams", len(m.Streams), 0, MaxStreams); err != nil {
		return err
	}
	for _, s := range m.Streams {
		if err := s.check(); err != nil {
			return err
		}
	}
	return streamIDs("sending", m.Sending)
}

func (s Stream) check() error {
	if s.Kind != "video" && s.Kind != "audio" {
		return wrong("kind")
	}
	return first(streamID(s.ID), printable("codec", s.Codec, 1, 32), between("rate", s.Rate, 0, 768_000))
}

func (m Subscribe) check() error   { return first(requestID(m.ID), streamID(m.Stream)) }
func (m Unsubscribe) check() error { return first(requestID(m.ID), streamID(m.Stream)) }
func (m KeyFrame) check() error    { return streamID(m.Stream) }
func (m Done) check() error        { return requestID(m.ID) }

func (m Refused) check() error {
	return first(requestID(m.ID), code("code", m.Code), sized("message", m.Message, 0, MaxText))
}

func (m ControlOffer) check() error {
	return first(requestID(m.ID), sized("sdp", m.SDP, 1, MaxSDP), m.Streams.check())
}

func (m ControlAnswer) check() error { return first(requestID(m.ID), sized("sdp", m.SDP, 1, MaxSDP)) }

func (w *Wanted) check() error {
	if w == nil {
		return nil
	}
	return first(streamIDs("video", w.Video), streamIDs("audio", w.Audio))
}

// blankControl returns an empty message of the control channel, or nil.
func blankControl(kind string) Message {
	switch kind {
	case "streams":
		return new(Streams)
	case "subscribe":
		return new(Subscribe)
	case "unsubscribe":
		return new(Unsubscribe)
	case "key_frame":
		return new(KeyFrame)
	case "done":
		return new(Done)
	case "refused":
		return new(Refused)
	case "offer":
		return new(ControlOffer)
	case "answer":
		return new(ControlAnswer)
	}
	return nil
}
