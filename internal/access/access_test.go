package access_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

func TestDecide(t *testing.T) {
	all := []access.Action{
		access.Connect, access.Publish, access.Play, access.Join,
		access.Ask, access.Moderate, access.Relay, access.Manage,
	}
	for _, c := range []struct {
		name     string
		actions  []string
		resource string
		asked    access.Action
		of       string
		want     error
	}{
		{"connects to its device", []string{"connect"}, "device:a", access.Connect, "device:a", nil},
		{"another device", []string{"connect"}, "device:a", access.Connect, "device:b", access.WrongResource},
		{"device whose id begins alike", []string{"connect"}, "device:a", access.Connect, "device:ab", access.WrongResource},
		{"device whose id is shorter", []string{"connect"}, "device:ab", access.Connect, "device:a", access.WrongResource},
		{"other case", []string{"connect"}, "device:a", access.Connect, "device:A", access.WrongResource},
		{"another kind of resource", []string{"connect"}, "device:a", access.Connect, "stream:a", access.WrongResource},
		{"no resource asked", []string{"connect"}, "device:a", access.Connect, "", access.WrongResource},
		{"no resource claimed", []string{"connect"}, "", access.Connect, "device:a", access.WrongResource},
		{"nothing claimed covers no path", []string{"connect"}, "", access.Connect, "/x", access.WrongResource},
		{"wrong action", []string{"connect"}, "device:a", access.Manage, "device:a", access.WrongAction},
		{"wrong action comes before wrong resource", []string{"connect"}, "device:a", access.Play, "device:b", access.WrongAction},
		{"no action claimed", nil, "device:a", access.Connect, "device:a", access.WrongAction},
		{"no action asked", []string{"connect"}, "device:a", "", "device:a", access.WrongAction},
		{"one of two actions", []string{"publish", "play"}, "stream:live/cam", access.Play, "stream:live/cam", nil},
		{"part of its stream", []string{"play"}, "stream:live/cam", access.Play, "stream:live/cam/720p", nil},
		{"stream above it", []string{"play"}, "stream:live/cam", access.Play, "stream:live", access.WrongResource},
		{"stream beside it", []string{"play"}, "stream:live/cam", access.Play, "stream:live/cam2", access.WrongResource},
		{"play does not publish", []string{"play"}, "stream:live/cam", access.Publish, "stream:live/cam", access.WrongAction},
		{"ask does not join", []string{"ask"}, "meeting:m", access.Join, "meeting:m", access.WrongAction},
		{"manages its app", []string{"manage"}, "app:demo", access.Manage, "app:demo", nil},
		{"manages no other app", []string{"manage"}, "app:demo", access.Manage, "app:demo2", access.WrongResource},
		{"manage is not connect", []string{"manage"}, "app:demo", access.Connect, "device:a", access.WrongAction},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := access.Decide(
				token.Claims{Actions: c.actions, Resource: c.resource},
				access.Request{Action: c.asked, Resource: c.of},
			)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("decided %v, want %v", err, c.want)
			}
			for _, a := range all {
				granted := err == nil && slices.Contains(c.actions, string(a))
				if g.Covers(a, c.resource) != granted {
					t.Errorf("grant covers %s on %q: %v", a, c.resource, !granted)
				}
			}
		})
	}
}

func TestGrantSaysWhatTheClaimsSaid(t *testing.T) {
	claims := token.Claims{
		ID: "id", App: "demo", KeyID: "ak", Subject: "user-17", Resource: "device:a",
		Actions: []string{"connect"}, Expires: time.Unix(1700000300, 0),
	}
	r := access.Request{Action: access.Connect, Resource: "device:a"}
	g, err := access.Decide(claims, r)
	if err != nil {
		t.Fatal(err)
	}
	if g.App != "demo" || g.KeyID != "ak" || g.Subject != "user-17" || g.TokenID != "id" || g.Resource != "device:a" {
		t.Errorf("grant %+v", g)
	}
	if !g.Expires.IsZero() {
		t.Errorf("session would end with its token, at %v, where no rule says so", g.Expires)
	}
	claims.Ends = true
	if g, err = access.Decide(claims, r); err != nil || !g.Expires.Equal(claims.Expires) {
		t.Errorf("session ends at %v, %v, want %v", g.Expires, err, claims.Expires)
	}
	claims.Until = claims.Expires.Add(-time.Minute)
	if g, err = access.Decide(claims, r); err != nil || !g.Expires.Equal(claims.Until) {
		t.Errorf("resumed session ends at %v, %v, want %v", g.Expires, err, claims.Until)
	}
}

func TestAllows(t *testing.T) {
	rule := func(subject string, a access.Action, resource string) access.Rule {
		return access.Rule{App: "demo", Subject: subject, Action: a, Resource: resource}
	}
	for _, c := range []struct {
		name     string
		rules    []access.Rule
		resource string
		want     bool
	}{
		{"no rules", nil, "device:a", false},
		{"the very one", []access.Rule{rule("ann", access.Connect, "device:a")}, "device:a", true},
		{"another device", []access.Rule{rule("ann", access.Connect, "device:b")}, "device:a", false},
		{"another subject", []access.Rule{rule("bob", access.Connect, "device:a")}, "device:a", false},
		{"subject whose name begins alike", []access.Rule{rule("an", access.Connect, "device:a")}, "device:a", false},
		{"another action", []access.Rule{rule("ann", access.Play, "device:a")}, "device:a", false},
		{"everyone", []access.Rule{rule("*", access.Connect, "device:a")}, "device:a", true},
		{"all devices", []access.Rule{rule("ann", access.Connect, "device:*")}, "device:a", true},
		{"everyone, all devices", []access.Rule{rule("*", access.Connect, "device:*")}, "device:a", true},
		{"all streams is not all devices", []access.Rule{rule("ann", access.Connect, "stream:*")}, "device:a", false},
		{"a star alone is no resource", []access.Rule{rule("ann", access.Connect, "*")}, "device:a", false},
		{"a prefix is no pattern", []access.Rule{rule("ann", access.Connect, "device:a*")}, "device:ab", false},
		{"the second rule", []access.Rule{rule("bob", access.Connect, "device:a"), rule("ann", access.Connect, "device:a")}, "device:a", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := access.Allows(c.rules, "ann", access.Connect, c.resource); got != c.want {
				t.Errorf("allowed: %v", got)
			}
		})
	}
}

func TestDeniedIsAStableCode(t *testing.T) {
	for d, want := range map[access.Denied]string{
		access.WrongAction:   "wrong_action",
		access.WrongResource: "wrong_resource",
		access.NoRule:        "no_rule",
	} {
		if string(d) != want || d.Error() != "access denied: "+want {
			t.Errorf("%q says %q", string(d), d.Error())
		}
	}
}
