"""HTTP responses that are sent, as bytes: what went well, and each fault at the one place that words it."""

from http import HTTPStatus

import orjson

from wsaas.errors import Fault


def answer(status: int, body: bytes, *headers: tuple[str, str], keep_alive: bool = True) -> bytes:
    """Return a response with a JSON `body` (none when empty)."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in headers]
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def fault_answer(fault: Fault, *, keep_alive: bool = True) -> bytes:
    """Return the response that tells of `fault`."""
    body = orjson.dumps({"code": fault.code, "message": fault.message})
    return answer(fault.status, body, *fault.headers, keep_alive=keep_alive)
