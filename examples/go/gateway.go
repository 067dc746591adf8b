// What each backend of WSaaS needs: signatures, replies and pushes.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func isSigned(header http.Header, body []byte) bool {
	sent := header.Get("Webhook-Timestamp")
	seconds, err := strconv.ParseInt(sent, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("API_SECRET"), "whsec_"))
	if err != nil || len(key) == 0 {
		return false
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", header.Get("Webhook-Id"), sent, body)
	expected := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, each := range strings.Fields(header.Get("Webhook-Signature")) {
		if hmac.Equal([]byte(each), expected) {
			return true
		}
	}
	return false
}

// reply sends a message to the client that has sent the one in the request, as text or binary like that one.
func reply(w http.ResponseWriter, r *http.Request, message []byte) {
	kind := "text"
	if r.Header.Get("Content-Type") == "application/octet-stream" {
		kind = "binary"
	}
	w.Header().Set("Ws-Reply", kind)
	w.Write(message)
}

// push sends a text message to a client or a group, and returns the status of the gateway's answer.
func push(uri string, text io.Reader) int {
	request, err := http.NewRequest(http.MethodPut, "http://"+uri, text)
	if err != nil {
		return http.StatusBadRequest
	}
	request.Header.Set("Authorization", "Bearer "+os.Getenv("CONTROL_TOKEN"))
	request.Header.Set("Content-Type", "text/plain")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return http.StatusServiceUnavailable
	}
	defer answer.Body.Close()
	return answer.StatusCode
}
