package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func built() *Pages {
	return newPages(fstest.MapFS{
		"dist/.keep":               {Data: nil},
		"dist/index.html":          {Data: []byte("<title>front</title>")},
		"dist/watch.html":          {Data: []byte("<title>watch</title>")},
		"dist/assets/watch-1A.js":  {Data: []byte("export {}")},
		"dist/assets/style-2B.css": {Data: []byte("body{}")},
	})
}

func get(p *Pages, target string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	if header != nil {
		r.Header = header
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestServesItsAddressesOnly(t *testing.T) {
	p := built()
	for _, c := range []struct {
		target string
		status int
		part   string
		mime   string
		cache  string
	}{
		{"/", 200, "front", "text/html", "no-cache"},
		{"/watch/device/demo-camera", 200, "watch", "text/html", "no-cache"},
		{"/watch/device/AABBCCDDEEFF", 200, "watch", "text/html", "no-cache"},
		{"/assets/watch-1A.js", 200, "export", "javascript", "immutable"},
		{"/assets/style-2B.css", 200, "body", "text/css", "immutable"},
		{"/assets/", 404, "", "", ""},
		{"/assets/other.js", 404, "", "", ""},
		{"/assets/..%2findex.html", 404, "", "", ""},
		{"/index.html", 404, "", "", ""},
		{"/.keep", 404, "", "", ""},
		{"/watch/device/", 404, "", "", ""},
		{"/watch/device/-x", 404, "", "", ""},
		{"/watch/device/a%20b", 404, "", "", ""},
		{"/watch/device/" + strings.Repeat("a", 33), 404, "", "", ""},
	} {
		w := get(p, c.target, nil)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.part) {
			t.Errorf("%s: status %d, body %q", c.target, w.Code, w.Body)
			continue
		}
		if !strings.Contains(w.Header().Get("Content-Type"), c.mime) && c.status == 200 {
			t.Errorf("%s: Content-Type %q", c.target, w.Header().Get("Content-Type"))
		}
		if !strings.Contains(w.Header().Get("Cache-Control"), c.cache) {
			t.Errorf("%s: Cache-Control %q", c.target, w.Header().Get("Cache-Control"))
		}
	}
}

func TestSetsStrictPolicy(t *testing.T) {
	h := get(built(), "/watch/device/cam", nil).Header()
	csp := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("policy is not strict: %q", csp)
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers missing: %v", h)
	}
}

func TestAnswersNotModified(t *testing.T) {
	p := built()
	etag := get(p, "/", nil).Header().Get("ETag")
	w := get(p, "/", http.Header{"If-None-Match": {etag}})
	if w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("status %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestRefusesOtherMethods(t *testing.T) {
	w := httptest.NewRecorder()
	built().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("status %d", w.Code)
	}
}

func TestSaysHowToBuildThePages(t *testing.T) {
	p := newPages(fstest.MapFS{"dist/.keep": {Data: nil}})
	w := get(p, "/", nil)
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "npm run build") {
		t.Errorf("status %d, body %q", w.Code, w.Body)
	}
}

func TestEmbedsADirectory(t *testing.T) {
	if w := get(New(), "/", nil); w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
}
