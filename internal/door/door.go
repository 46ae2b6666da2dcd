// Package door says what a door is, and owns what doors that speak HTTP share:
// the listener ([Web]), problem details for errors, the limit on refusals per
// source, and the WebSocket ([Socket]). It knows no credential, session or
// device; a door brings those.
package door

import (
	"context"
	"net/http"
)

// A Door lets one protocol in. Serve blocks until ctx ends and every goroutine
// it started has returned; it returns nil when it ended because ctx did.
type Door interface {
	Serve(ctx context.Context) error
}

// A WebDoor lives on the shared HTTP listener; it is mounted before it is served.
type WebDoor interface {
	Door
	Mount(*http.ServeMux)
}
