package api

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/turnpike-rtc/turnpike/internal/access"
	"github.com/turnpike-rtc/turnpike/token"
)

// appName is the form of an app's name (protocol/token.md, section 1).
var appName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// streamApps are names with capitals that existing stream clients have built in.
var streamApps = []string{"LiveApp", "WebRTCApp", "WebRTCAppEE"}

// reservedNames are first path segments of addresses, which an app would hide
// (protocol/http.md).
var reservedNames = []string{
	"api", "assets", "backend", "connect-token", "console", "create-meeting", "device", "docs", "favicon.ico",
	"get-token", "healthz", "meet", "metrics", "openapi.json", "publish", "readyz", "robots.txt", "rtc", "twirp",
	"v1", "v2", "validate-meeting", "watch", "whep", "whip",
}

func checkAppName(name string) error {
	if slices.Contains(reservedNames, name) {
		return newProblem(http.StatusUnprocessableEntity, "reserved_name", fmt.Sprintf("%q is an address of the server; choose another name for the app.", name))
	}
	if !appName.MatchString(name) && !slices.Contains(streamApps, name) {
		return invalid("An app's name is 1 to 63 lower-case letters, digits, '-' and '_', and begins with a letter or digit.")
	}
	return nil
}

func checkDeviceID(id string) error {
	if !token.ValidDeviceID(id) {
		return invalid("A device id is 1 to 32 letters, digits, '-' and '_', and begins with a letter or digit.")
	}
	return nil
}

func checkSubject(subject string) error {
	if !token.ValidSubject(subject) {
		return invalid("A subject is 1 to 256 bytes of text without control characters.")
	}
	return nil
}

// grantable are the actions a grant may give. The rest come with a token.
var grantable = []access.Action{access.Connect}

// checkGrant looks at a rule's action and resource; "device:*" is all devices of the app.
func checkGrant(a access.Action, resource string) error {
	if !slices.Contains(grantable, a) {
		return invalid(`The action of a grant is "connect".`)
	}
	id, ok := strings.CutPrefix(resource, "device:")
	if !ok || id != "*" && !token.ValidDeviceID(id) {
		return invalid(`The resource of a grant is "device:<device_id>", or "device:*" for all devices of the app.`)
	}
	return nil
}
