import trio
from scenario import AUTHORIZATION, MESSAGES, URL, report
from trio_websocket import ConnectionClosed, ConnectionRejected, open_websocket_url


async def main() -> None:
    headers = [(name.encode(), value.encode()) for name, value in AUTHORIZATION.items()]
    async with open_websocket_url(URL, subprotocols=["chat"], extra_headers=headers) as socket:
        echoes = []
        for message in MESSAGES:
            await socket.send_message(message)
            echoes.append(await socket.get_message())
        await socket.send_message("push")
        pushed = await socket.get_message()
        await socket.send_message("bye")
        try:
            await socket.get_message()
        except ConnectionClosed as closed:
            close = (closed.reason.code, closed.reason.reason)
    try:
        async with open_websocket_url(f"{URL}refused"):
            pass
    except ConnectionRejected as error:
        report(socket.subprotocol, echoes, pushed, close, error.status_code)


trio.run(main)
