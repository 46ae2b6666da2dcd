// Package access decides whether verified claims allow a request, and names what
// is written down about it. The decision is one pure function, so the whole
// policy fits in a test table.
package access

import (
	"slices"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// Action is something a subject may do to a resource.
type Action string

// The actions, one per way of using the server.
const (
	Connect  Action = "connect"  // reach a device
	Publish  Action = "publish"  // send a stream
	Play     Action = "play"     // watch a stream
	Join     Action = "join"     // enter a meeting
	Ask      Action = "ask"      // knock at a meeting
	Moderate Action = "moderate" // rule a meeting
	Relay    Action = "relay"    // use the TURN server
	Manage   Action = "manage"   // change an app's records
)

// Request is what a door asks for on behalf of a caller.
type Request struct {
	Action   Action
	Resource string // "device:ID", "stream:APP/ID", "meeting:ID", "app:NAME"
	Door     string // the door's name, for the audit trail and metrics
	From     string // the caller's address, for the audit trail
	Quiet    bool   // the caller was refused too often lately: one more refusal is not written down
}

// DeviceResource names a device as a resource.
func DeviceResource(id string) string { return "device:" + id }

// AppResource names an app as a resource.
func AppResource(name string) string { return "app:" + name }

// Grant is a positive decision.
type Grant struct {
	App      string
	Subject  string
	Resource string
	Actions  []Action
	Expires  time.Time // the session ends then; zero: no end of its own
	TokenID  string
	KeyID    string
}

// Covers reports whether the grant allows action on resource: the very one, or
// one below it ("stream:live/cam" covers "stream:live/cam/720p"). A grant of no
// resource covers nothing.
func (g Grant) Covers(a Action, resource string) bool {
	return g.Resource != "" && slices.Contains(g.Actions, a) &&
		(resource == g.Resource || strings.HasPrefix(resource, g.Resource+"/"))
}

// Denied is a negative decision. Its text is a stable code for the audit trail;
// outside, doors say only "forbidden".
type Denied string

func (d Denied) Error() string { return "access denied: " + string(d) }

// Reasons for a denial.
const (
	WrongAction   Denied = "wrong_action"
	WrongResource Denied = "wrong_resource"
	NoRule        Denied = "no_rule"
)

// Decide turns verified claims into a grant for the request, or says why not.
func Decide(c token.Claims, r Request) (Grant, error) {
	g := Grant{App: c.App, Subject: c.Subject, Resource: c.Resource, TokenID: c.ID, KeyID: c.KeyID}
	switch {
	case !c.Until.IsZero():
		g.Expires = c.Until // resuming a session does not prolong it
	case c.Ends:
		g.Expires = c.Expires
	}
	for _, a := range c.Actions {
		g.Actions = append(g.Actions, Action(a))
	}
	if !slices.Contains(g.Actions, r.Action) {
		return Grant{}, WrongAction
	}
	if !g.Covers(r.Action, r.Resource) {
		return Grant{}, WrongResource
	}
	return g, nil
}

// Rule is one line of the table an operator edits: the subject of an app may take
// the action on the resource. "*" as subject stands for everyone the app's
// identity provider vouches for; a resource "device:*" for all of the app's devices.
type Rule struct {
	App      string
	Subject  string
	Action   Action
	Resource string
	Created  time.Time
}

// Allows reports whether one of the rules lets subject take action on resource.
// The rules are those of one app.
func Allows(rules []Rule, subject string, a Action, resource string) bool {
	kind, _, _ := strings.Cut(resource, ":")
	return slices.ContainsFunc(rules, func(r Rule) bool {
		return r.Action == a && (r.Subject == subject || r.Subject == "*") &&
			(r.Resource == resource || r.Resource == kind+":*")
	})
}
