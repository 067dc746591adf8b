import sys

import requests

ws_uri = f"http://{sys.argv[1]}"
text, binary = {"Content-Type": "text/plain; charset=utf-8"}, {"Content-Type": "application/octet-stream"}
with requests.Session() as http:
    http.put(ws_uri, data="Grüße".encode(), headers=text).raise_for_status()
    http.put(ws_uri, json={"n": 1}).raise_for_status()
    http.put(ws_uri, data=b"\xff\x00", headers=binary).raise_for_status()
    assert http.get(ws_uri).json()["state"] == "open"
    http.delete(ws_uri, json={"code": 4000, "reason": "bye"}).raise_for_status()
    assert http.put(ws_uri, data=b"").status_code == 410
