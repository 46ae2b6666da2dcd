package signal

// ICEServer is a STUN or TURN server, as RTCPeerConnection takes it.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Wanted names the stream ids a client wants for its offer's media sections, in
// the order of the sections of each kind.
type Wanted struct {
	Video []int `json:"video,omitempty"`
	Audio []int `json:"audio,omitempty"`
}

// Challenge is the server's first word on a new connection (section 1.1).
type Challenge struct {
	Nonce string `json:"nonce"` // 32 random bytes, base64url
	Time  int64  `json:"time"`  // the server's clock, Unix seconds
}

// Hello is the device's answer to the challenge: who it is, and the proof.
type Hello struct {
	DeviceID string   `json:"device_id"`
	ClientID string   `json:"client_id"` // physical identity: MAC address, serial number
	Nonce    string   `json:"nonce"`     // 16 to 32 random bytes, base64url
	Proof    string   `json:"proof"`
	Version  string   `json:"version,omitempty"`  // of the device's software
	Sessions []string `json:"sessions,omitempty"` // those it still carries
}

// Welcome puts the device online and proves that the server is genuine.
type Welcome struct {
	Proof        string      `json:"proof"`
	Epoch        int64       `json:"epoch"`         // which start of the device this is
	Keepalive    int         `json:"keepalive"`     // seconds between the device's pings
	SessionLease int         `json:"session_lease"` // seconds without any server after which sessions end; 0: never
	ICEServers   []ICEServer `json:"ice_servers,omitempty"`
	End          []string    `json:"end,omitempty"` // those of Hello.Sessions that are over
}

// Offer tells the device that a client wants to connect (section 1.3).
type Offer struct {
	Session    string      `json:"session"`
	SDP        string      `json:"sdp"`
	Subject    string      `json:"subject"` // who it is, as the app names them
	ICEServers []ICEServer `json:"ice_servers,omitempty"`
	Streams    *Wanted     `json:"streams,omitempty"`
}

// Answer is the device's yes to an Offer.
type Answer struct {
	Session string `json:"session"`
	SDP     string `json:"sdp"`
}

// Refuse is the device's no to an Offer.
type Refuse struct {
	Session string `json:"session"`
	Code    string `json:"code"` // busy, unsupported, bad_offer, failed
	Message string `json:"message,omitempty"`
}

// Candidate carries a client's trickled candidates (RFC 8840) to the device.
type Candidate struct {
	Session  string `json:"session"`
	Fragment string `json:"fragment"`
}

// Connected reports that media flows.
type Connected struct {
	Session string `json:"session"`
	Path    string `json:"path"` // PathDirect or PathRelay
}

// The paths media can take.
const (
	PathDirect = "direct"
	PathRelay  = "relay"
)

// Closed reports that a peer connection is over.
type Closed struct {
	Session string `json:"session"`
	Reason  string `json:"reason"` // remote, failed, device, ended
}

// End asks the device to close a session now; Closed answers it.
type End struct {
	Session string `json:"session"`
	Reason  string `json:"reason"`
}

// Drain announces that the server goes away. Sessions go on without it.
type Drain struct {
	AfterMS int `json:"after_ms"` // when to connect again
}

// Error says what was wrong with a message. It is for people; nobody acts on it.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message,omitempty"`
}

// Type is the word on the wire.
func (Challenge) Type() string { return "challenge" }

// Type is the word on the wire.
func (Hello) Type() string { return "hello" }

// Type is the word on the wire.
func (Welcome) Type() string { return "welcome" }

// Type is the word on the wire.
func (Offer) Type() string { return "offer" }

// Type is the word on the wire.
func (Answer) Type() string { return "answer" }

// Type is the word on the wire.
func (Refuse) Type() string { return "refuse" }

// Type is the word on the wire.
func (Candidate) Type() string { return "candidate" }

// Type is the word on the wire.
func (Connected) Type() string { return "connected" }

// Type is the word on the wire.
func (Closed) Type() string { return "closed" }

// Type is the word on the wire.
func (End) Type() string { return "end" }

// Type is the word on the wire.
func (Drain) Type() string { return "drain" }

// Type is the word on the wire.
func (Error) Type() string { return "error" }

func (m Challenge) check() error {
	return first(nonce("nonce", m.Nonce, 32, 32), atLeast("time", m.Time, 0))
}

func (m Hello) check() error {
	return first(
		name("device_id", m.DeviceID, MaxDeviceID),
		printable("client_id", m.ClientID, 1, MaxClientID),
		nonce("nonce", m.Nonce, 16, 32),
		nonce("proof", m.Proof, 32, 32),
		printable("version", m.Version, 0, MaxVersion),
		sessions("sessions", m.Sessions))
}

func (m Welcome) check() error {
	return first(
		nonce("proof", m.Proof, 32, 32),
		atLeast("epoch", m.Epoch, 0),
		between("keepalive", m.Keepalive, 1, 3600),
		between("session_lease", m.SessionLease, 0, 7*86400),
		servers(m.ICEServers),
		sessions("end", m.End))
}

func (m Offer) check() error {
	return first(
		session(m.Session), sized("sdp", m.SDP, 1, MaxSDP), sized("subject", m.Subject, 0, MaxSubject),
		servers(m.ICEServers), m.Streams.check())
}

func (m Answer) check() error { return first(session(m.Session), sized("sdp", m.SDP, 1, MaxSDP)) }

func (m Refuse) check() error {
	return first(session(m.Session), code("code", m.Code), sized("message", m.Message, 0, MaxText))
}

func (m Candidate) check() error {
	return first(session(m.Session), sized("fragment", m.Fragment, 1, MaxFragment))
}

func (m Connected) check() error { return first(session(m.Session), code("path", m.Path)) }
func (m Closed) check() error    { return first(session(m.Session), code("reason", m.Reason)) }
func (m End) check() error       { return first(session(m.Session), code("reason", m.Reason)) }
func (m Drain) check() error     { return between("after_ms", m.AfterMS, 0, 3600_000) }

func (m Error) check() error {
	return first(code("code", m.Code), sized("message", m.Message, 0, MaxText))
}

func (m Drain) needs() []string { return []string{"after_ms"} }

// blank returns an empty message of the device's WebSocket, or nil.
func blank(kind string) Message {
	switch kind {
	case "challenge":
		return new(Challenge)
	case "hello":
		return new(Hello)
	case "welcome":
		return new(Welcome)
	case "offer":
		return new(Offer)
	case "answer":
		return new(Answer)
	case "refuse":
		return new(Refuse)
	case "candidate":
		return new(Candidate)
	case "connected":
		return new(Connected)
	case "closed":
		return new(Closed)
	case "end":
		return new(End)
	case "drain":
		return new(Drain)
	case "error":
		return new(Error)
	}
	return nil
}
