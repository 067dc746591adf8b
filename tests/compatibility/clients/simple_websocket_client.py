from scenario import AUTHORIZATION, MESSAGES, URL, report
from simple_websocket import Client, ConnectionClosed
from simple_websocket import ConnectionError as HandshakeError

socket = Client(URL, subprotocols=["chat"], headers=AUTHORIZATION)
echoes = []
for message in MESSAGES:
    socket.send(message)
    echoes.append(socket.receive())
socket.send("push")
pushed = socket.receive()
socket.send("bye")
try:
    socket.receive()
except ConnectionClosed as closed:
    close = (closed.reason, closed.message)
try:
    Client(f"{URL}refused")
except HandshakeError as error:
    report(socket.subprotocol, echoes, pushed, close, error.status_code)
