import asyncio

from scenario import AUTHORIZATION, MESSAGES, URL, report
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def main() -> None:
    async with connect(URL, additional_headers=AUTHORIZATION, subprotocols=["chat"]) as socket:
        echoes = []
        for message in MESSAGES:
            await socket.send(message)
            echoes.append(await socket.recv())
        await socket.send("push")
        pushed = await socket.recv()
        await socket.send("bye")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            close = (closed.rcvd.code, closed.rcvd.reason)
    try:
        await connect(f"{URL}refused")
    except InvalidStatus as error:
        report(socket.subprotocol, echoes, pushed, close, error.response.status_code)


asyncio.run(main())
