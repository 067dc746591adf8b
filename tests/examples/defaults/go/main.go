// Go's net/http with its defaults. It is started by:
// wsaas dev --no-check -- go run .
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/websocket", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"code": "OK"}`)
	})
	http.HandleFunc("/raw", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body))
	})
	http.HandleFunc("/slash/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "found")
	})
	log.Fatal(http.ListenAndServe("localhost:"+os.Getenv("PORT"), nil))
}
