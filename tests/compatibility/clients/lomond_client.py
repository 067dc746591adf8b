import sys

from lomond import WebSocket
from scenario import AUTHORIZATION, MESSAGES, URL, report

socket = WebSocket(URL, protocols=["chat"])
for name, value in AUTHORIZATION.items():
    socket.add_header(name.encode(), value.encode())
script = [*MESSAGES, "push", "bye"]
received = []


def send_next() -> None:
    message = script.pop(0)
    socket.send_text(message) if isinstance(message, str) else socket.send_binary(message)


for event in socket.connect():
    if event.name == "ready":
        subprotocol = event.protocol
        send_next()
    elif event.name in {"text", "binary"}:
        received.append(event.text if event.name == "text" else event.data)
        send_next()
    elif event.name == "closing":
        close = (event.code, event.reason)
    elif event.name in {"connect_fail", "rejected"}:
        sys.exit(str(event))
*echoes, pushed = received
for event in WebSocket(f"{URL}refused").connect():
    if event.name == "rejected":
        report(subprotocol, echoes, pushed, close, event.response.status_code)
