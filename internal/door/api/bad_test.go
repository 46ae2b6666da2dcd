package api_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func newRequest(t *testing.T, method, url string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	q, err := http.NewRequestWithContext(ctx, method, url, nil)
	must(t, err)
	return q
}

func roundTrip(t *testing.T, q *http.Request) reply {
	t.Helper()
	a, err := http.DefaultClient.Do(q)
	must(t, err)
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	must(t, err)
	return reply{a.StatusCode, a.Header, text}
}

func TestRefusesBadInput(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"POST", "/apps", ``, 400, "malformed"},
		{"POST", "/apps", `{`, 400, "malformed"},
		{"POST", "/apps", `nonsense`, 400, "malformed"},
		{"POST", "/apps", `null`, 422, "invalid"},
		{"POST", "/apps", `[]`, 422, "invalid"},
		{"POST", "/apps", `"demo"`, 422, "invalid"},
		{"POST", "/apps", `{}`, 422, "invalid"},
		{"POST", "/apps", `{"app":7}`, 422, "invalid"},
		{"POST", "/apps", `{"app":null}`, 422, "invalid"},
		{"POST", "/apps", `{"app":""}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"Mine"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"-mine"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"a/b"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"mine\u0000"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"` + long + `"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"new","secret_key":"own"}`, 422, "invalid"},
		{"POST", "/apps", `{"app":"api"}`, 422, "reserved_name"},
		{"POST", "/apps", `{"app":"favicon.ico"}`, 422, "reserved_name"},
		{"POST", "/apps", `{"app":"mine"}`, 409, "exists"},
		{"POST", "/apps", `{"app":"` + strings.Repeat("x", 70<<10) + `"}`, 413, "too_large"},
		{"GET", "/apps?limit=1", ``, 422, "invalid"},
		{"GET", "/apps/nobody", ``, 404, "not_found"},
		{"GET", "/apps/%00", ``, 404, "not_found"},
		{"PATCH", "/apps/mine", `{"policy":{"skew":301}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"policy":{"skew":-1}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"policy":{"max_ttl":86401}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"policy":{"max_ttl":1.5}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"policy":{"one_key":"yes"}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"identity":{"jwks_url":"file:///etc/passwd","issuer":"i"}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"identity":{"jwks_url":"https://u:p@host/","issuer":"i"}}`, 422, "invalid"},
		{"PATCH", "/apps/mine", `{"identity":{"jwks_url":"https://host/"}}`, 422, "invalid"},
		{"POST", "/keys/nobody/rotate", ``, 404, "not_found"},
		{"POST", "/keys/nobody/rotate?overlap=-1", ``, 422, "invalid"},
		{"POST", "/keys/nobody/rotate?overlap=ages", ``, 422, "invalid"},
		{"POST", "/apps/mine/devices", `{"device_id":"a b"}`, 422, "invalid"},
		{"POST", "/apps/mine/devices", `{"device_id":"` + long + `"}`, 422, "invalid"},
		{"POST", "/apps/mine/devices", `{"device_id":"CAM"}`, 409, "exists"},
		{"POST", "/apps/nobody/devices", `{}`, 404, "not_found"},
		{"GET", "/apps/mine/devices?limit=0", ``, 422, "invalid"},
		{"GET", "/apps/mine/devices?limit=1001", ``, 422, "invalid"},
		{"DELETE", "/devices/nobody", ``, 404, "not_found"},
		{"POST", "/apps/mine/grants", `{"subject":"u"}`, 422, "invalid"},
		{"POST", "/apps/mine/grants", `{"subject":"","resource":"device:*"}`, 422, "invalid"},
		{"POST", "/apps/mine/grants", `{"subject":"u","resource":"stream:a"}`, 422, "invalid"},
		{"POST", "/apps/mine/grants", `{"subject":"u","resource":"device:"}`, 422, "invalid"},
		{"POST", "/apps/mine/grants", `{"subject":"u","action":"manage","resource":"device:*"}`, 422, "invalid"},
		{"DELETE", "/apps/mine/grants", ``, 422, "invalid"},
		{"DELETE", "/apps/mine/grants?subject=u&resource=device:*", ``, 404, "not_found"},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"rtsp://CAM"}`, 422, "invalid"},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"nobody"}`, 404, "not_found"},
		{"POST", "/apps/theirs/tokens", `{"subject":"u","remote_id":"CAM"}`, 404, "not_found"},
		{"POST", "/apps/mine/tokens", `{"subject":"u\n","remote_id":"CAM"}`, 422, "invalid"},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM","ttl":0}`, 422, "invalid"},
		{"POST", "/apps/mine/tokens", `{"subject":"u","remote_id":"CAM","ttl":86401}`, 422, "invalid"},
		{"POST", "/tokens/revoke", `{}`, 422, "invalid"},
		{"POST", "/tokens/revoke", `{"token":"v1.x.y"}`, 422, "invalid"},
		{"POST", "/tokens/revoke", `{"token_id":"abc"}`, 422, "invalid"},
		{"POST", "/tokens/revoke", `{"token":"` + h.token + `","token_id":"abc"}`, 422, "invalid"},
		{"POST", "/tokens/verify", `{"token":"` + strings.Repeat("x", 3000) + `"}`, 422, "invalid"},
		{"POST", "/sessions/nobody/end", ``, 404, "not_found"},
		{"GET", "/events?before=yesterday", ``, 422, "invalid"},
		{"GET", "/nothing", ``, 404, "not_found"},
		{"PUT", "/apps", ``, 405, "method_not_allowed"},
		{"GET", "/tokens/verify", ``, 405, "method_not_allowed"},
	} {
		a := h.do(operator, c.method, c.path, c.body)
		if a.status != c.status || a.code() != c.code {
			t.Errorf("%s %s %.60s: %d %q, want %d %q: %s", c.method, c.path, c.body, a.status, a.code(), c.status, c.code, a.body)
		}
		var p struct{ Type, Title, Detail string }
		if json.Unmarshal(a.body, &p) != nil || p.Type != "about:blank" || p.Title == "" || p.Detail == "" {
			t.Errorf("%s %s %.60s: incomplete problem %s", c.method, c.path, c.body, a.body)
		}
	}
}

func TestRefusesBodiesThatAreNotJSON(t *testing.T) {
	h := newRig(t)
	for _, contentType := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"} {
		a := h.send(operator, "POST", "/apps", `{"app":"demo"}`, contentType)
		if a.status != 415 || a.code() != "unsupported_media_type" {
			t.Errorf("%s: %d %q, want 415 unsupported_media_type", contentType, a.status, a.code())
		}
	}
}

func TestErrorsNeverEchoValues(t *testing.T) {
	h := newHouse(t)
	for _, body := range []string{`{"token":"hush-hush"`, `{"token":["hush-hush"]}`, `{"tokens":"hush-hush"}`, `"hush-hush"`} {
		if a := h.do(operator, "POST", "/tokens/verify", body); strings.Contains(string(a.body), "hush") {
			t.Errorf("%s: answered with what was sent: %s", body, a.body)
		}
	}
}
