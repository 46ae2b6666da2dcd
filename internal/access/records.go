package access

import "time"

// Admission is everything that becomes durable, in one commit, when a caller is
// let in: the token is spent, the session is on the list and the audit trail
// says so; or none of it.
type Admission struct {
	Session   string    // id of the new session
	Grant     Grant     //
	Door      string    //
	From      string    // the caller's address
	Node      string    // the node that holds the session
	At        time.Time //
	Spends    string    // token id to spend; empty when the credential is not one-time
	SpentTill time.Time // when the spent id may be forgotten
	Ticket    string    // hash of the resume ticket; empty: no ticket
	TicketEnd time.Time //
	Replaces  string    // session that this one resumes; empty: a new caller
}

// Entry is a session as the list shows it.
type Entry struct {
	ID      string    `json:"id"`
	App     string    `json:"app"`
	Subject string    `json:"subject"`
	Door    string    `json:"door"`
	Actions []Action  `json:"actions"`
	Target  string    `json:"resource"`
	From    string    `json:"from"`
	Node    string    `json:"node"`
	TokenID string    `json:"token_id"`
	KeyID   string    `json:"access_id,omitempty"`
	Started time.Time `json:"started"`
	Expires time.Time `json:"expires,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	Reason  string    `json:"reason,omitempty"` // why it ended
}

// Event is one line of the audit trail.
type Event struct {
	ID       string    `json:"id,omitempty"` // given by the store; where to read on
	At       time.Time `json:"at"`
	App      string    `json:"app,omitempty"`
	Kind     string    `json:"kind"`             // "admitted", "refused", "ended", "issued", "revoked", "created", …
	Reason   string    `json:"reason,omitempty"` // the true reason, as a stable code
	Door     string    `json:"door,omitempty"`
	Action   Action    `json:"action,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	TokenID  string    `json:"token_id,omitempty"`
	KeyID    string    `json:"access_id,omitempty"`
	Session  string    `json:"session,omitempty"`
	From     string    `json:"from,omitempty"`
	Node     string    `json:"node,omitempty"`
	Actor    string    `json:"actor,omitempty"` // who did it, for what people do: "operator", "key:ID"
}

// Presence says where a device is connected.
type Presence struct {
	DeviceID string    `json:"device_id"`
	Node     string    `json:"node"`
	Epoch    int64     `json:"epoch"` // grows with each start; the highest holds the device
	ClientID string    `json:"client_id"`
	Since    time.Time `json:"online_since"`
	From     string    `json:"from"`
	Version  string    `json:"version"` // of the device's software
}
