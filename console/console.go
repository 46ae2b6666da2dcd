// Package console carries the built pages inside the binary and serves them: the
// front page, and the page that plays a device. They are TypeScript, built by
// `npm run build` into dist, which is embedded when the binary is built after it.
package console

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// policy lets a page load its own files, talk to its own server, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// notBuilt is the answer of a binary that was built before the pages were.
const notBuilt = "The pages are not built into this binary. Build them, and then the binary again:\n\n" +
	"    npm ci && npm run build\n    make build\n\nThe server itself works without them.\n"

// page is one file with the headers it is served with.
type page struct {
	body  []byte
	mime  string
	cache string
	etag  string
}

// Pages serves the pages. It is read only and safe for concurrent use.
type Pages struct {
	built  bool
	pages  map[string]page // by file name in dist: index.html, assets/…
	routes *http.ServeMux
}

// New reads the embedded pages. A binary without them answers 503 and says how to build them.
func New() *Pages {
	return newPages(dist)
}

func newPages(files fs.FS) *Pages {
	p := &Pages{pages: map[string]page{}, routes: http.NewServeMux()}
	err := fs.WalkDir(files, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		p.pages[strings.TrimPrefix(name, "dist/")] = newPage(name, body)
		return nil
	})
	_, hasIndex := p.pages["index.html"]
	p.built = err == nil && hasIndex
	p.Mount(p.routes)
	return p
}

// newPage fixes how a file is served. Assets have the hash of their content in the
// name, so a browser may keep them for good; pages name the assets and are asked for
// every time.
func newPage(name string, body []byte) page {
	sum := sha256.Sum256(body)
	cache := "no-cache"
	if strings.HasPrefix(name, "dist/assets/") {
		cache = "public, max-age=31536000, immutable"
	}
	kind := mime.TypeByExtension(path.Ext(name))
	if kind == "" {
		kind = "application/octet-stream"
	}
	return page{
		body:  body,
		mime:  kind,
		cache: cache,
		etag:  fmt.Sprintf("%q", base64.RawURLEncoding.EncodeToString(sum[:12])),
	}
}

// Mount registers the addresses of the pages, and no other.
func (p *Pages) Mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, "index.html") })
	mux.HandleFunc("GET /watch/device/{id}", p.watch)
	mux.HandleFunc("GET /assets/{name...}", func(w http.ResponseWriter, r *http.Request) {
		p.serve(w, r, "assets/"+r.PathValue("name"))
	})
}

// ServeHTTP serves the pages alone; any other address is 404.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.routes.ServeHTTP(w, r) }

// watch serves one page for every device. The page itself asks whether there is such
// a device, with a token; here only the form of the id is checked (token.md, section 1).
func (p *Pages) watch(w http.ResponseWriter, r *http.Request) {
	if !validDevice(r.PathValue("id")) {
		http.NotFound(w, r)
		return
	}
	p.serve(w, r, "watch.html")
}

func (p *Pages) serve(w http.ResponseWriter, r *http.Request, name string) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	if !p.built {
		h.Set("Cache-Control", "no-store")
		http.Error(w, notBuilt, http.StatusServiceUnavailable)
		return
	}
	found, ok := p.pages[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h.Set("Content-Type", found.mime)
	h.Set("Cache-Control", found.cache)
	h.Set("ETag", found.etag)
	if r.Header.Get("If-None-Match") == found.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(found.body)))
	// An error here means that the browser went away.
	_, _ = w.Write(found.body)
}

func validDevice(id string) bool {
	if len(id) == 0 || len(id) > 32 {
		return false
	}
	for i, c := range []byte(id) {
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_') {
			return false
		}
	}
	return true
}
