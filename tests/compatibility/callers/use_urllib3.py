import sys

import urllib3

ws_uri = f"http://{sys.argv[1]}"
text, binary = {"Content-Type": "text/plain; charset=utf-8"}, {"Content-Type": "application/octet-stream"}
answers = [
    urllib3.request("PUT", ws_uri, body="Grüße".encode(), headers=text),
    urllib3.request("PUT", ws_uri, json={"n": 1}),
    urllib3.request("PUT", ws_uri, body=b"\xff\x00", headers=binary),
    urllib3.request("GET", ws_uri),
    urllib3.request("DELETE", ws_uri, json={"code": 4000, "reason": "bye"}),
    urllib3.request("PUT", ws_uri, body=b""),
]
assert [answer.status for answer in answers] == [200, 200, 200, 200, 200, 410]
