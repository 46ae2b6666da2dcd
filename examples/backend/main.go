// Command backend is the smallest back end that signs connect tokens. Who may connect
// to what is its own decision; here, everyone who is named in a table.
//
//	ACCESS_ID=… SECRET_KEY=… DEVICE_SECRET_KEY=… go run ./examples/backend
//	curl 'http://localhost:8090/connect-token?peer_id=device://CAM01' -H 'Authorization: Bearer ann'
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/turnpike-rtc/turnpike/token"
)

// mayConnect says which user may connect to which device. A real back end asks its
// database, and checks who the user is.
var mayConnect = map[string]string{"ann": "CAM01"}

const ttl = 5 * time.Minute

func main() {
	http.HandleFunc("GET /connect-token", connectToken)
	log.Fatal(http.ListenAndServe("localhost:8090", nil))
}

func connectToken(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	target := r.FormValue("peer_id")
	device, err := token.ParseRemoteID(target)
	if err != nil || mayConnect[user] != device {
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	}
	now := time.Now()
	raw, err := token.SignConnect(token.Connect{
		Subject: user, DeviceID: device, KeyID: os.Getenv("ACCESS_ID"),
		Issued: now, Expires: now.Add(ttl), Nonce: token.NewNonce(),
	}, token.Secrets{App: os.Getenv("SECRET_KEY"), Device: os.Getenv("DEVICE_SECRET_KEY")})
	if err != nil {
		log.Print(err)
		http.Error(w, "cannot sign", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"peer_id": target, "token": raw, "expires_in": int(ttl.Seconds())})
}
