package api_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/turnpike-rtc/turnpike/internal/access"
)

// operation is a request whose names are those of newHouse.
type operation struct {
	method, path, body string
	operator, own      int // status for the operator and for the app's own key
	foreign            int // for another app's key
}

// operations is every operation of the API, in an order in which each finds what it
// needs. None of them may say more to a stranger than 401.
func operations(h house) []operation {
	return []operation{
		{"GET", "/apps", "", 200, 200, 200},
		{"POST", "/apps", `{"app":"NEW"}`, 201, 403, 403},
		{"GET", "/apps/mine", "", 200, 200, 404},
		{"PATCH", "/apps/mine", `{"policy":{"skew":20}}`, 200, 200, 404},
		{"GET", "/apps/mine/keys", "", 200, 200, 404},
		{"POST", "/apps/mine/keys", "", 201, 201, 404},
		{"POST", "/keys/KEY/rotate", "", 201, 201, 404},
		{"POST", "/keys/KEY/revoke", "", 204, 204, 404},
		{"POST", "/apps/mine/devices", `{}`, 201, 201, 404},
		{"GET", "/apps/mine/devices", "", 200, 200, 404},
		{"GET", "/devices/CAM", "", 200, 200, 404},
		{"POST", "/devices/CAM/disable", "", 204, 204, 404},
		{"POST", "/devices/CAM/enable", "", 204, 204, 404},
		{"POST", "/devices/CAM/release", "", 204, 204, 404},
		{"GET", "/apps/mine/grants", "", 200, 200, 404},
		{"POST", "/apps/mine/grants", `{"subject":"NEW","resource":"device:*"}`, 201, 201, 404},
		{"DELETE", "/apps/mine/grants?subject=NEW&resource=device:*", "", 204, 204, 404},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM"}`, 201, 201, 404},
		{"POST", "/tokens/verify", `{"token":"` + h.token + `"}`, 200, 200, 200},
		{"POST", "/tokens/revoke", `{"token":"` + h.token + `"}`, 204, 204, 404},
		{"POST", "/tokens/revoke", `{"app":"mine","token_id":"abc"}`, 204, 204, 404},
		{"POST", "/apps/mine/subjects/revoke", `{"subject":"u"}`, 204, 204, 404},
		{"GET", "/sessions", "", 200, 200, 200},
		{"GET", "/sessions?app=mine", "", 200, 200, 404},
		{"GET", "/sessions/s1", "", 200, 200, 404},
		{"POST", "/sessions/s1/end", "", 204, 204, 404},
		{"GET", "/events", "", 200, 200, 200},
		{"GET", "/events?app=mine", "", 200, 200, 404},
		{"DELETE", "/devices/DOOMED", "", 204, 204, 404},
	}
}

// house is a server with an app, a stranger's app, a device, a token and a session.
type house struct {
	*rig
	mine, theirs who
	token        string
}

func newHouse(t *testing.T) house {
	h := house{rig: newRig(t)}
	h.mine, h.theirs = h.app("mine"), h.app("theirs")
	h.device("mine", "CAM")
	var issued struct{ Token string }
	h.do(operator, "POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM"}`).decode(t, &issued)
	h.token = issued.Token
	_, err := h.store.Admit(t.Context(), access.Admission{
		Session: "s1", Grant: access.Grant{App: "mine", Subject: "u", Resource: "device:CAM", Actions: []access.Action{access.Connect}, TokenID: "t1"},
		Door: "device", Node: "node-1", At: time.Now(), Spends: "t1", SpentTill: time.Now().Add(time.Hour),
	})
	must(t, err)
	return h
}

// fill replaces the names that an operation uses up.
func (h house) fill(text, nth string) string {
	if strings.Contains(text, "KEY") {
		var k struct {
			AccessID string `json:"access_id"`
		}
		h.do(operator, "POST", "/apps/mine/keys", "").decode(h.t, &k)
		text = strings.ReplaceAll(text, "KEY", k.AccessID)
	}
	if strings.Contains(text, "DOOMED") {
		h.device("mine", "DOOMED"+nth)
		text = strings.ReplaceAll(text, "DOOMED", "DOOMED"+nth)
	}
	return strings.ReplaceAll(text, "NEW", "new"+nth)
}

func TestEveryOperationKnowsWhoMayUseIt(t *testing.T) {
	h := newHouse(t)
	foreignSecret := h.mine
	foreignSecret.secret = h.theirs.secret
	for _, o := range operations(h) {
		for nth, c := range map[string]struct {
			who  who
			want int
		}{
			"1": {operator, o.operator},
			"2": {h.mine, o.own},
			"3": {h.theirs, o.foreign},
			"4": {who{}, 401},
			"5": {foreignSecret, 401},
		} {
			a := h.do(c.who, o.method, h.fill(o.path, nth), h.fill(o.body, nth))
			if a.status != c.want {
				t.Errorf("%s %s, caller %s: status %d, want %d: %s", o.method, o.path, nth, a.status, c.want, a.body)
			}
			if a.status >= 400 && a.code() == "" {
				t.Errorf("%s %s, caller %s: no problem with a code: %s", o.method, o.path, nth, a.body)
			}
			if a.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: 401 without WWW-Authenticate", o.method, o.path)
			}
		}
	}
}

func TestTableHasEveryOperation(t *testing.T) {
	h := newHouse(t)
	covered := map[string]bool{"GET /api/v1/about": true}
	for _, o := range operations(h) {
		path, _, _ := strings.Cut(o.path, "?")
		covered[o.method+" "+pattern("/api/v1"+path)] = true
	}
	for path, methods := range openAPI(t, h.rig).Paths {
		for method := range methods {
			if name := strings.ToUpper(method) + " " + path; !covered[name] {
				t.Errorf("%s is not in the authorisation table", name)
			}
		}
	}
}

// pattern puts the parameters back into a path of the table.
func pattern(path string) string {
	return strings.NewReplacer("/apps/mine", "/apps/{app}", "/KEY", "/{access_id}", "/CAM", "/{device_id}",
		"/DOOMED", "/{device_id}", "/s1", "/{session}").Replace(path)
}

func TestAKeySeesNothingOfOtherApps(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/apps", "/sessions?all=true", "/events"} {
		a := h.do(h.theirs, "GET", path, "")
		if strings.Contains(string(a.body), "mine") {
			t.Errorf("GET %s tells another app's key: %s", path, a.body)
		}
	}
	var v struct {
		Valid  bool
		Reason string
	}
	h.do(h.theirs, "POST", "/tokens/verify", `{"token":"`+h.token+`"}`).decode(t, &v)
	if v.Valid || v.Reason != "unknown" {
		t.Errorf("verdict for another app's key: %+v, want unknown", v)
	}
	broken := h.token[:len(h.token)-4] + "AAAA"
	h.do(h.theirs, "POST", "/tokens/verify", `{"token":"`+broken+`"}`).decode(t, &v)
	if v.Reason == "signature" {
		t.Error("another app's key hears what is wrong with a token")
	}
}

func TestSlowsDownWhoTriesKeys(t *testing.T) {
	h := newRig(t)
	key := h.app("mine")
	eventually(t, "429 after many wrong keys", func() bool {
		a := h.do(who{accessID: key.accessID, secret: "wrong-secret"}, "GET", "/apps", "")
		return a.status == 429 && a.code() == "too_many_failures" && a.header.Get("Retry-After") != ""
	})
	if a := h.do(key, "GET", "/apps", ""); a.status != 200 {
		t.Errorf("the right key from the same address: status %d, want 200", a.status)
	}
	if a := h.do(operator, "GET", "/apps", ""); a.status != 200 {
		t.Errorf("the operator: status %d, want 200", a.status)
	}
}

func TestRefusesPagesOfOtherSites(t *testing.T) {
	h := newHouse(t)
	q := newRequest(t, "POST", h.url+"/api/v1/devices/CAM/disable")
	q.SetBasicAuth(h.mine.accessID, h.mine.secret)
	q.Header.Set("Origin", "https://evil.example")
	q.Header.Set("Sec-Fetch-Site", "cross-site")
	a := roundTrip(t, q)
	if a.status != 403 || a.code() != "cross_origin" {
		t.Errorf("status %d, code %q, want 403 cross_origin", a.status, a.code())
	}
}

func TestMalformedBasicIsRefused(t *testing.T) {
	h := newRig(t)
	for _, header := range []string{"Basic", "Basic !!!", "Basic " + base64.StdEncoding.EncodeToString([]byte("nocolon")),
		"Bearer abc", "Basic " + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", 5000)+":b"))} {
		q := newRequest(t, "GET", h.url+"/api/v1/apps")
		q.Header.Set("Authorization", header)
		if a := roundTrip(t, q); a.status != 401 {
			t.Errorf("%.20q: status %d, want 401", header, a.status)
		}
	}
}
