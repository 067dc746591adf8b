package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func hook(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodPost:
		if r.Header.Get("Authorization") != "Bearer ada" {
			http.Error(w, `{"code": "UNAUTHORIZED"}`, http.StatusUnauthorized)
			return
		}
		var body struct{ Request struct{ Path string } }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		groups := []string{strings.Trim(body.Request.Path, "/")}
		json.NewEncoder(w).Encode(map[string]interface{}{"code": "OK", "groups": groups})
	case http.MethodPut:
		kind := "binary"
		if strings.HasPrefix(r.Header.Get("Content-Type"), "text/") {
			kind = "text"
		}
		w.Header().Set("Ws-Reply", kind)
		io.Copy(w, r.Body)
	case http.MethodDelete:
		var body struct{ Code int }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"code": strconv.Itoa(body.Code)})
	}
}

func main() {
	http.HandleFunc("/hook", hook)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
