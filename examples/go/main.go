// A backend in Go, with net/http. It is started by:
// wsaas dev --header 'Authorization: Bearer ada-token' -- go run .
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"regexp"
)

var hostname = os.Getenv("WS_HOSTNAME")
var target = regexp.MustCompile("^" + regexp.QuoteMeta(hostname) + `/([\w-]{30}|groups/lobby)$`)
var users = map[string]string{"Bearer ada-token": "ada", "Bearer ben-token": "ben"} // in place of your users

func websocket(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)) // MAX_MESSAGE_SIZE
	user := users[r.Header.Get("Authorization")]
	switch {
	case err != nil || !isSigned(r.Header, body) || r.Method == http.MethodPost && user == "":
		http.Error(w, `{"code": "UNAUTHORIZED"}`, http.StatusUnauthorized)
	case r.Method == http.MethodPost:
		fmt.Fprintf(w, `{"code": "OK", "context": %q, "groups": ["lobby"]}`, user)
	case r.Method == http.MethodDelete:
		log.Printf("%s left: %s", r.Header.Get("Ws-Context"), body)
	case string(body) == "bye":
		w.Header().Set("Ws-Close", "4000 bye")
	default:
		reply(w, r, body)
	}
}

func notify(w http.ResponseWriter, r *http.Request) {
	uri := r.URL.Query().Get("to")
	if uri == "" {
		uri = hostname + "/groups/lobby"
	}
	switch {
	case users[r.Header.Get("Authorization")] == "":
		http.Error(w, `{"code": "UNAUTHORIZED"}`, http.StatusUnauthorized)
	case !target.MatchString(uri): // CONTROL_TOKEN allows more than to push
		http.Error(w, `{"code": "BAD_REQUEST"}`, http.StatusBadRequest)
	default:
		w.WriteHeader(push(uri, r.Body))
	}
}

func main() {
	http.HandleFunc("/websocket", websocket)
	http.HandleFunc("/notify", notify)
	log.Fatal(http.ListenAndServe("localhost:"+os.Getenv("PORT"), nil))
}
