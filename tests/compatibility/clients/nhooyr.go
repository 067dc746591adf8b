package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"

	"nhooyr.io/websocket"
)

func main() {
	url := os.Args[1]
	ctx := context.Background()
	options := &websocket.DialOptions{
		HTTPHeader:   http.Header{"Authorization": {"Bearer ada"}},
		Subprotocols: []string{"chat"},
	}
	socket, _, err := websocket.Dial(ctx, url, options)
	check(err)
	socket.SetReadLimit(1 << 20)
	every := make([]byte, 256)
	for at := range every {
		every[at] = byte(at)
	}
	messages := []struct {
		kind websocket.MessageType
		data []byte
	}{
		{websocket.MessageText, []byte("Grüße 🎉")},
		{websocket.MessageText, nil},
		{websocket.MessageBinary, every},
		{websocket.MessageBinary, nil},
		{websocket.MessageBinary, bytes.Repeat(every, 4096)},
	}
	same := []bool{}
	for _, message := range messages {
		check(socket.Write(ctx, message.kind, message.data))
		kind, data, err := socket.Read(ctx)
		check(err)
		same = append(same, kind == message.kind && bytes.Equal(data, message.data))
	}
	check(socket.Write(ctx, websocket.MessageText, []byte("push")))
	_, pushed, err := socket.Read(ctx)
	check(err)
	check(socket.Write(ctx, websocket.MessageText, []byte("bye")))
	_, _, err = socket.Read(ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) {
		panic(err)
	}
	_, response, _ := websocket.Dial(ctx, url+"refused", nil)
	check(json.NewEncoder(os.Stdout).Encode(map[string]interface{}{
		"subprotocol": socket.Subprotocol(), "same": same, "pushed": string(pushed),
		"close": []interface{}{closed.Code, closed.Reason}, "refused": response.StatusCode,
	}))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
