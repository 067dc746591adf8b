from scenario import AUTHORIZATION, MESSAGES, URL, report
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

with connect(URL, additional_headers=AUTHORIZATION, subprotocols=["chat"]) as socket:
    echoes = []
    for message in MESSAGES:
        socket.send(message)
        echoes.append(socket.recv())
    socket.send("push")
    pushed = socket.recv()
    socket.send("bye")
    try:
        socket.recv()
    except ConnectionClosed as closed:
        close = (closed.rcvd.code, closed.rcvd.reason)
try:
    connect(f"{URL}refused")
except InvalidStatus as error:
    report(socket.subprotocol, echoes, pushed, close, error.response.status_code)
