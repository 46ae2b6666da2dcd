//go:build e2e

package test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// again starts a server where n, which must have stopped, was.
func (n *node) again() *node {
	n.t.Helper()
	return startNodeAt(n.t, strings.TrimPrefix(n.url, "http://"), n.dir)
}

// token signs a connect token with the command line, as a back end would.
func (h house) token(n *node) string {
	n.t.Helper()
	return strings.TrimSpace(n.cli("token", "connect", "--access-id", h.AccessID, "--secret-key", h.SecretKey,
		"--device-secret-key", h.DeviceKey, "--remote-id", h.DeviceID, "--sub", "user-17", "--ttl", "300"))
}

// onlySession is the id of the one session that is on the list.
func (n *node) onlySession() string {
	n.t.Helper()
	var all []struct{ ID string }
	unmarshal(n.t, n.cli("session", "list", "--json"), &all)
	if len(all) != 1 {
		n.t.Fatalf("%d sessions are on the list, want 1", len(all))
	}
	return all[0].ID
}

// problem is the body of a refusal.
type problem struct {
	Status int
	Code   string
	Detail string
}

// whep posts an offer with a token and returns the status and, for a refusal, its problem.
func whep(t testing.TB, base, device, token, offer string) (int, problem, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, base+"/whep/device/"+device, strings.NewReader(offer))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/sdp")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: patient}
	resp, err := client.Do(req)
	if err != nil {
		return 0, problem{Detail: err.Error()}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var p problem
	if resp.StatusCode >= 400 {
		unmarshal(t, string(body), &p)
	}
	return resp.StatusCode, p, resp.Header
}
