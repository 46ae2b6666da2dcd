package authority

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/turnpike-rtc/turnpike/token"
)

func TestCacheStaysBounded(t *testing.T) {
	c := newCache[int]()
	read := func(_ context.Context, id string) (int, error) { return strconv.Atoi(id) }
	for i := range 2 * maxCached {
		if got, err := c.get(t.Context(), view{}, strconv.Itoa(i), read); err != nil || got != i {
			t.Fatalf("got %d, %v, want %d", got, err, i)
		}
	}
	if len(c.entries) > maxCached {
		t.Errorf("holds %d entries", len(c.entries))
	}
}

func TestCacheNeverGoesBack(t *testing.T) {
	c := newCache[string]()
	value := func(s string, err error) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return s, err }
	}
	for _, step := range []struct {
		name   string
		view   view
		stored string
		err    error
		want   string
	}{
		{"reads", view{revision: 1, records: 1}, "one", nil, "one"},
		{"keeps", view{revision: 5, records: 1}, "two", nil, "one"},
		{"reads again after a change", view{revision: 6, records: 6}, "three", nil, "three"},
		{"ignores who has an older view", view{revision: 4, records: 4}, "four", nil, "three"},
		{"remembers that there is none", view{revision: 7, records: 7}, "", token.ErrUnknown, ""},
		{"and does not ask again", view{revision: 8, records: 7}, "five", nil, ""},
	} {
		got, err := c.get(t.Context(), step.view, "id", value(step.stored, step.err))
		if got != step.want || (step.want == "") != errors.Is(err, token.ErrUnknown) {
			t.Errorf("%s: got %q, %v", step.name, got, err)
		}
	}
	if _, err := c.get(t.Context(), view{revision: 9, records: 9}, "id", value("", errors.New("disk"))); err == nil {
		t.Error("a failure to read was taken for an answer")
	}
	if got, err := c.get(t.Context(), view{revision: 9, records: 9}, "id", value("six", nil)); got != "six" || err != nil {
		t.Errorf("a failure was kept: %q, %v", got, err)
	}
}

func FuzzParseJWKS(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseJWKS(text)
		if err != nil {
			return
		}
		all, err := keys.Storage().KeyReadAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range all {
			if kty := k.Marshal().KTY.String(); kty != "RSA" && kty != "EC" {
				t.Fatalf("took a key of type %s", kty)
			}
		}
	})
}
