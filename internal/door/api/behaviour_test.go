package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// document is the part of the OpenAPI description that tests look at.
type document struct {
	OpenAPI string
	Info    struct{ Title, Version, Description string }
	Paths   map[string]map[string]struct {
		OperationID string `json:"operationId"`
		Summary     string
		Security    *[]map[string][]string
		Responses   map[string]struct{ Content map[string]any }
	}
	Components struct {
		SecuritySchemes map[string]struct{ Type, Scheme string }
		Schemas         map[string]struct{ Properties map[string]any }
	}
}

func openAPI(t *testing.T, h *rig) document {
	t.Helper()
	var d document
	roundTrip(t, newRequest(t, "GET", h.url+"/openapi.json")).decode(t, &d)
	return d
}

func TestDescribesItself(t *testing.T) {
	d := openAPI(t, newRig(t))
	if d.OpenAPI != "3.1.0" || d.Info.Title == "" || d.Info.Version != "1.2.3" || d.Info.Description == "" {
		t.Errorf("head of the document: %s %+v", d.OpenAPI, d.Info)
	}
	if s := d.Components.SecuritySchemes["key"]; s.Type != "http" || s.Scheme != "basic" {
		t.Errorf("security scheme: %+v", s)
	}
	if d.Components.Schemas["Problem"].Properties["code"] == nil {
		t.Error("errors are not described with a code")
	}
	if len(d.Paths) < 20 {
		t.Errorf("%d paths are described", len(d.Paths))
	}
	for path, methods := range d.Paths {
		for method, o := range methods {
			if o.OperationID == "" || o.Summary == "" {
				t.Errorf("%s %s has no id or no summary", method, path)
			}
			if o.Responses["422"].Content["application/problem+json"] == nil {
				t.Errorf("%s %s does not describe its errors", method, path)
			}
			if open := o.Security != nil && len(*o.Security) == 0; open != strings.HasSuffix(path, "/about") {
				t.Errorf("%s %s is public: %v", method, path, open)
			}
		}
	}
}

func TestAboutIsPublic(t *testing.T) {
	var about struct {
		Version, Node string
		Doors         []string
	}
	newRig(t).do(who{}, "GET", "/about", "").decode(t, &about)
	if about.Version != "1.2.3" || about.Node != "node-1" || len(about.Doors) != 1 {
		t.Errorf("about: %+v", about)
	}
}

func TestSecretsAreShownOnce(t *testing.T) {
	h := newHouse(t)
	secrets := []string{h.mine.secret, h.device("mine", "CAM2"), h.token}
	var k struct {
		SecretKey string `json:"secret_key"`
	}
	h.do(h.mine, "POST", "/keys/"+h.mine.accessID+"/rotate?overlap=3600", "").decode(t, &k)
	secrets = append(secrets, k.SecretKey)
	for _, s := range secrets {
		if len(s) < 40 {
			t.Fatalf("a secret of %d characters", len(s))
		}
	}
	h.eventOf("issued")
	for _, path := range []string{"/about", "/apps", "/apps/mine", "/apps/mine/keys", "/apps/mine/devices", "/devices/CAM2",
		"/apps/mine/grants", "/sessions?all=true", "/sessions/s1", "/events?limit=1000"} {
		a := h.do(operator, "GET", path, "")
		if a.status != 200 {
			t.Errorf("GET %s: status %d", path, a.status)
		}
		for _, s := range secrets {
			if strings.Contains(string(a.body), s) {
				t.Errorf("GET %s shows a secret", path)
			}
		}
	}
}

// eventOf waits for an event of the app "mine" and returns it.
func (h house) eventOf(kind string) (found access.Event) {
	h.t.Helper()
	eventually(h.t, "event "+kind, func() bool {
		var list struct{ Events []access.Event }
		h.do(operator, "GET", "/events?app=mine&limit=1000", "").decode(h.t, &list)
		for _, e := range list.Events {
			if e.Kind == kind {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func TestEveryChangeIsInTheAuditTrail(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct{ method, path, body, kind string }{
		{"PATCH", "/apps/mine", `{"policy":{"one_key":true}}`, "changed"},
		{"POST", "/apps/mine/grants", `{"subject":"u","resource":"device:CAM"}`, "granted"},
		{"DELETE", "/apps/mine/grants?subject=u&resource=device:CAM", "", "withdrawn"},
		{"POST", "/devices/CAM/disable", "", "disabled"},
		{"POST", "/devices/CAM/enable", "", "enabled"},
		{"POST", "/devices/CAM/release", "", "released"},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM"}`, "issued"},
		{"POST", "/apps/mine/subjects/revoke", `{"subject":"u"}`, "revoked"},
		{"POST", "/sessions/s1/end", "", "kicked"},
		{"DELETE", "/devices/CAM", "", "removed"},
		{"POST", "/keys/" + h.mine.accessID + "/rotate", "", "rotated"},
	} {
		if a := h.do(h.mine, c.method, c.path, c.body); a.status >= 300 {
			t.Fatalf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		e := h.eventOf(c.kind)
		if c.kind != "issued" && e.Actor != "key:"+h.mine.accessID {
			t.Errorf("%s: actor %q", c.kind, e.Actor)
		}
		if e.Door != "api" || e.Node != "node-1" {
			t.Errorf("%s: door %q, node %q", c.kind, e.Door, e.Node)
		}
	}
	h.do(who{accessID: h.mine.accessID, secret: "wrong-secret"}, "GET", "/apps", "")
	eventually(t, "refused key in the audit trail", func() bool {
		a := h.do(operator, "GET", "/events", "")
		return strings.Contains(string(a.body), `"kind":"refused"`) && strings.Contains(string(a.body), `"from":"127.0.0.1"`)
	})
}

func TestPolicyAndIdentityChangeInPart(t *testing.T) {
	h := newHouse(t)
	h.do(operator, "PATCH", "/apps/mine", `{"policy":{"max_ttl":60,"end_on_expiry":true},"identity":{"issuer":"https://id","jwks_url":"https://id/keys"}}`)
	h.do(operator, "PATCH", "/apps/mine", `{"policy":{"skew":5}}`)
	a := h.do(operator, "GET", "/apps/mine", "")
	for _, want := range []string{`"skew":5`, `"max_ttl":60`, `"one_key":false`, `"end_on_expiry":true`, `"issuer":"https://id"`, `"jwks_url":"https://id/keys"`} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	if a := h.do(h.mine, "PATCH", "/apps/mine", `{"identity":{"jwks_url":"https://127.0.0.1/keys"}}`); a.status != 403 {
		t.Errorf("a key points the server at an address: status %d, want 403", a.status)
	}
	for _, identity := range []string{`{"issuer":""}`, `{"issuer":"a\u0000"}`, `{"audience":"a\u0007"}`, `{"jwks_url":"file:///etc/passwd"}`} {
		if a := h.do(operator, "PATCH", "/apps/mine", `{"identity":`+identity+`}`); a.status != 422 {
			t.Errorf("identity %s: status %d, want 422", identity, a.status)
		}
	}
	if a := h.do(operator, "PATCH", "/apps/theirs", `{"identity":{"issuer":"https://id"}}`); a.status != 409 || a.code() != "exists" {
		t.Errorf("two apps with one issuer: %d %s", a.status, a.body)
	}
	eventually(t, "tokens live no longer than the new policy allows", func() bool {
		var issued struct {
			ExpiresIn int `json:"expires_in"`
		}
		h.do(operator, "POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM","ttl":61}`).decode(t, &issued)
		return issued.ExpiresIn == 60
	})
}

func TestRotatedKeyLivesThroughTheOverlap(t *testing.T) {
	h := newHouse(t)
	var fresh struct {
		AccessID  string `json:"access_id"`
		SecretKey string `json:"secret_key"`
	}
	h.do(h.mine, "POST", "/keys/"+h.mine.accessID+"/rotate?overlap=3600", "").decode(t, &fresh)
	renewed := who{accessID: fresh.AccessID, secret: fresh.SecretKey}
	for _, k := range []who{h.mine, renewed} {
		if a := h.do(k, "GET", "/apps/mine", ""); a.status != 200 {
			t.Errorf("key %s in the overlap: status %d", k.accessID, a.status)
		}
	}
	h.do(renewed, "POST", "/keys/"+h.mine.accessID+"/revoke", "")
	eventually(t, "revoked key is refused", func() bool { return h.do(h.mine, "GET", "/apps/mine", "").status == 401 })
	if a := h.do(operator, "POST", "/keys/"+h.mine.accessID+"/rotate", ""); a.status != 409 {
		t.Errorf("rotating a revoked key: status %d, want 409", a.status)
	}
}

func TestVerifySaysWhatIsWrongAndSpendsNothing(t *testing.T) {
	h := newHouse(t)
	verdict := func(w who) (v struct {
		Valid             bool
		Reason, Subject   string
		Resource, TokenID string
	}) {
		h.do(w, "POST", "/tokens/verify", `{"token":"`+h.token+`"}`).decode(t, &v)
		return v
	}
	for range 2 {
		if v := verdict(h.mine); !v.Valid || v.Subject != "u" || v.Resource != "device:CAM" {
			t.Fatalf("verdict on a good token: %+v", v)
		}
	}
	h.do(h.mine, "POST", "/tokens/revoke", `{"token":"`+h.token+`"}`)
	eventually(t, "revoked token is refused", func() bool { return verdict(operator).Reason == "revoked" })
	for raw, want := range map[string]string{"v1.a.b": "malformed", "v2.a.b": "version", h.token[:len(h.token)-2] + "AA": "signature", "rt1.x": "malformed"} {
		var v struct{ Reason string }
		h.do(operator, "POST", "/tokens/verify", `{"token":"`+raw+`"}`).decode(t, &v)
		if v.Reason != want {
			t.Errorf("%.10s: reason %q, want %q", raw, v.Reason, want)
		}
	}
}

func TestEndedSessionIsOffTheList(t *testing.T) {
	h := newHouse(t)
	ids := func(query string) string { return string(h.do(h.mine, "GET", "/sessions"+query, "").body) }
	if !strings.Contains(ids(""), `"s1"`) {
		t.Fatal("live session is not listed")
	}
	for range 2 {
		if a := h.do(h.mine, "POST", "/sessions/s1/end", ""); a.status != 204 {
			t.Fatalf("end: status %d: %s", a.status, a.body)
		}
	}
	if strings.Contains(ids(""), `"s1"`) {
		t.Error("ended session is still listed")
	}
	if !strings.Contains(ids("?all=true"), `"reason":"kicked"`) {
		t.Errorf("ended session is not in the full list: %s", ids("?all=true"))
	}
}

func TestDevicesComeInPages(t *testing.T) {
	h := newHouse(t)
	for i := range 5 {
		h.device("theirs", fmt.Sprintf("D%d", i))
	}
	var all []string
	for query := "?limit=2"; ; {
		var page struct {
			Devices []struct {
				DeviceID string `json:"device_id"`
			}
			Next string
		}
		h.do(h.theirs, "GET", "/apps/theirs/devices"+query, "").decode(t, &page)
		for _, d := range page.Devices {
			all = append(all, d.DeviceID)
		}
		if page.Next == "" {
			break
		}
		query = "?limit=2&after=" + page.Next
	}
	if got := strings.Join(all, " "); got != "D0 D1 D2 D3 D4" {
		t.Errorf("all pages: %s", got)
	}
}

func TestEventsComeInPagesWithoutGaps(t *testing.T) {
	h := newHouse(t)
	begin := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for i := range 12 { // four moments with three events each
		must(t, h.store.Note(t.Context(), access.Event{At: begin.Add(time.Duration(i/3) * time.Second), App: "theirs", Kind: fmt.Sprintf("k%02d", i)}))
	}
	count := func() (n int) {
		seen := map[string]bool{}
		for query := "?limit=4"; ; {
			var page struct {
				Events []access.Event
				Next   string
			}
			h.do(h.theirs, "GET", "/events"+query, "").decode(t, &page)
			for _, e := range page.Events {
				if e.Kind[0] == 'k' && !seen[e.Kind] {
					seen[e.Kind] = true
				}
			}
			if page.Next == "" {
				return len(seen)
			}
			query = "?limit=4&before=" + url.QueryEscape(page.Next)
		}
	}
	eventually(t, "all events in pages of four", func() bool { return count() == 12 })
}

func TestShowsPresence(t *testing.T) {
	h := newHouse(t)
	if a := h.do(h.mine, "GET", "/devices/CAM", ""); !strings.Contains(string(a.body), `"online":false`) {
		t.Errorf("offline device: %s", a.body)
	}
	_, err := h.store.Online(t.Context(), access.Presence{DeviceID: "CAM", Node: "node-1", ClientID: "c", Since: time.Now(), From: "192.0.2.1", Version: "v9"})
	must(t, err)
	var d struct {
		Online   bool
		Presence struct{ From, Version, Node string }
	}
	h.do(h.mine, "GET", "/devices/CAM", "").decode(t, &d)
	if p := d.Presence; !d.Online || p.From != "192.0.2.1" || p.Version != "v9" || p.Node != "node-1" {
		t.Errorf("online device: %+v", d)
	}
}

func TestMadeUpDeviceGetsALicense(t *testing.T) {
	h := newHouse(t)
	var d map[string]string
	a := h.do(h.mine, "POST", "/apps/mine/devices", `{}`)
	must(t, json.Unmarshal(a.body, &d))
	if len(d["device_id"]) != 12 || d["license"] != d["device_id"]+","+d["device_secret_key"] {
		t.Errorf("new device: %v", d)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("an answer with a secret may be cached: %q", a.header.Get("Cache-Control"))
	}
}
