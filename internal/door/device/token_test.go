package device

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/internal/door/doortest"
)

// userToken signs a user token with the app's key.
func userToken(t *testing.T, subject, secret string, lives time.Duration) string {
	t.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"iss": doortest.AccessID, "sub": subject, "exp": time.Now().Add(lives).Unix(),
	})
	raw, err := j.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func allow(t *testing.T, s *site, subject, resource string) {
	t.Helper()
	rule := access.Rule{App: doortest.App, Subject: subject, Action: access.Connect, Resource: resource, Created: time.Now()}
	if err := s.Store.AddRule(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
}

func TestHandsTokensToUsersWhoMayConnect(t *testing.T) {
	s := newSite(t)
	s.online(t, start{})
	allow(t, s, "alice", access.DeviceResource(doortest.Cam))
	a := ring(t, "GET", s.url+"/connect-token?peer_id=device://"+doortest.Cam+"&ttl=60", "",
		"Authorization", "Bearer "+userToken(t, "alice", doortest.SecretKey, time.Hour))
	var got struct {
		PeerID    string `json:"peer_id"`
		RemoteID  string `json:"remote_id"`
		Token     string `json:"token"`
		ExpiresIn int    `json:"expires_in"`
	}
	if err := json.Unmarshal([]byte(a.text), &got); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	if want := "device://" + doortest.Cam; got.PeerID != want || got.RemoteID != want || got.ExpiresIn != 60 {
		t.Errorf("answer %+v", got)
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be cached")
	}
	if b := s.post(t, got.Token); b.StatusCode != http.StatusCreated {
		t.Errorf("the token: %d %s", b.StatusCode, b.text)
	}
}

func TestRefusesTokensToOthers(t *testing.T) {
	s := newSite(t)
	allow(t, s, "alice", access.DeviceResource(doortest.Cam))
	allow(t, s, "root", access.DeviceResource("*"))
	alice := userToken(t, "alice", doortest.SecretKey, time.Hour)
	for _, c := range []struct {
		name, query, credential string
		status                  int
		code                    string
	}{
		{"allowed", "?remote_id=" + doortest.Cam, alice, 200, ""},
		{"twice the same", "?remote_id=" + doortest.Cam + "&peer_id=device://" + doortest.Cam, alice, 200, ""},
		{"no user token", "?remote_id=" + doortest.Cam, "", 401, "token_refused"},
		{"forged", "?remote_id=" + doortest.Cam, userToken(t, "alice", "another-secret", time.Hour), 401, "token_refused"},
		{"expired", "?remote_id=" + doortest.Cam, userToken(t, "alice", doortest.SecretKey, -time.Hour), 401, "token_expired"},
		{"no rule", "?remote_id=" + doortest.OtherCam, alice, 403, "forbidden"},
		{"another user", "?remote_id=" + doortest.Cam, userToken(t, "bob", doortest.SecretKey, time.Hour), 403, "forbidden"},
		{"no such device", "?remote_id=NOBODY", userToken(t, "root", doortest.SecretKey, time.Hour), 403, "forbidden"},
		{"no target", "", alice, 400, "bad_request"},
		{"two targets", "?remote_id=" + doortest.Cam + "&peer_id=" + doortest.OtherCam, alice, 400, "bad_request"},
		{"another scheme", "?remote_id=http://" + doortest.Cam, alice, 400, "bad_request"},
		{"no time", "?remote_id=" + doortest.Cam + "&ttl=soon", alice, 400, "bad_request"},
		{"a week", "?remote_id=" + doortest.Cam + "&ttl=604800", alice, 400, "bad_request"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.credential != "" {
				header = []string{"Authorization", "Bearer " + c.credential}
			}
			a := ring(t, "GET", s.url+"/connect-token"+c.query, "", header...)
			if a.StatusCode != c.status || a.code() != c.code {
				t.Errorf("%d %s, want %d %s", a.StatusCode, a.text, c.status, c.code)
			}
		})
	}
	if a := ring(t, "POST", s.url+"/connect-token", ""); a.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d %s", a.StatusCode, a.text)
	}
}
