from scenario import AUTHORIZATION, MESSAGES, URL, report
from websocket import ABNF, WebSocketBadStatusException, create_connection

socket = create_connection(URL, header=AUTHORIZATION, subprotocols=["chat"])
echoes = []
for message in MESSAGES:
    socket.send(message) if isinstance(message, str) else socket.send_binary(message)
    # `recv` returns "" for an empty binary message.
    opcode, data = socket.recv_data()
    echoes.append(data.decode() if opcode == ABNF.OPCODE_TEXT else data)
socket.send("push")
pushed = socket.recv()
socket.send("bye")
opcode, data = socket.recv_data()
close = (int.from_bytes(data[:2], "big"), data[2:].decode())
try:
    create_connection(f"{URL}refused")
except WebSocketBadStatusException as error:
    report(socket.subprotocol, echoes, pushed, close, error.status_code)
