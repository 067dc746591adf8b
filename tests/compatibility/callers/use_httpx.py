import sys

import httpx

ws_uri = f"http://{sys.argv[1]}"
text, binary = {"Content-Type": "text/plain; charset=utf-8"}, {"Content-Type": "application/octet-stream"}
with httpx.Client() as http:
    http.put(ws_uri, content="Grüße", headers=text).raise_for_status()
    http.put(ws_uri, json={"n": 1}).raise_for_status()
    http.put(ws_uri, content=b"\xff\x00", headers=binary).raise_for_status()
    assert http.get(ws_uri).json()["state"] == "open"
    http.request("DELETE", ws_uri, json={"code": 4000, "reason": "bye"}).raise_for_status()
    assert http.put(ws_uri, content=b"").status_code == 410
