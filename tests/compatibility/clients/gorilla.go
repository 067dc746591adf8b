package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

func main() {
	url := os.Args[1]
	headers := http.Header{"Authorization": {"Bearer ada"}}
	dialer := websocket.Dialer{Subprotocols: []string{"chat"}, EnableCompression: true}
	socket, _, err := dialer.Dial(url, headers)
	check(err)
	every := make([]byte, 256)
	for at := range every {
		every[at] = byte(at)
	}
	messages := []struct {
		kind int
		data []byte
	}{
		{websocket.TextMessage, []byte("Grüße 🎉")},
		{websocket.TextMessage, nil},
		{websocket.BinaryMessage, every},
		{websocket.BinaryMessage, nil},
		{websocket.BinaryMessage, bytes.Repeat(every, 4096)},
	}
	same := []bool{}
	for _, message := range messages {
		check(socket.WriteMessage(message.kind, message.data))
		kind, data, err := socket.ReadMessage()
		check(err)
		same = append(same, kind == message.kind && bytes.Equal(data, message.data))
	}
	check(socket.WriteMessage(websocket.TextMessage, []byte("push")))
	_, pushed, err := socket.ReadMessage()
	check(err)
	check(socket.WriteMessage(websocket.TextMessage, []byte("bye")))
	_, _, err = socket.ReadMessage()
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		panic(err)
	}
	_, response, _ := dialer.Dial(url+"refused", nil)
	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"subprotocol": socket.Subprotocol(), "same": same, "pushed": string(pushed),
		"close": []interface{}{closed.Code, closed.Text}, "refused": response.StatusCode,
	}))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
