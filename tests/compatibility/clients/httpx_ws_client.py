from httpx_ws import WebSocketDisconnect, WebSocketUpgradeError, connect_ws
from scenario import AUTHORIZATION, MESSAGES, URL, report

with connect_ws(URL, headers=AUTHORIZATION, subprotocols=["chat"]) as socket:
    echoes = []
    for message in MESSAGES:
        if isinstance(message, str):
            socket.send_text(message)
            echoes.append(socket.receive_text())
        else:
            socket.send_bytes(message)
            echoes.append(socket.receive_bytes())
    socket.send_text("push")
    pushed = socket.receive_text()
    socket.send_text("bye")
    try:
        socket.receive_text()
    except WebSocketDisconnect as closed:
        close = (closed.code, closed.reason)
    subprotocol = socket.subprotocol
try:
    with connect_ws(f"{URL}refused"):
        pass
except WebSocketUpgradeError as error:
    report(subprotocol, echoes, pushed, close, error.response.status_code)
