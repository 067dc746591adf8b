"""The specification of the client has each way to echo, and the cases for a `COMPRESSION`."""

import pytest

from tests.conformance.autobahn.__main__ import compressions, spec


@pytest.mark.parametrize(("compression", "left_out"), [("off", ["12.*", "13.*"]), ("on", [])])
def test_the_client_gets_its_test_plan(tmp_path, compression, left_out):
    assert spec(compression, ["6.*"], 15000, tmp_path) == {
        "outdir": str(tmp_path),
        "servers": [
            {"agent": "put", "url": "ws://127.0.0.1:15000/put"},
            {"agent": "reply", "url": "ws://127.0.0.1:15000/reply"},
        ],
        "cases": ["6.*"],
        "exclude-cases": left_out,
    }


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        (["*"], ["off", "on"]),
        (["1.*", "12.*"], ["off", "on"]),
        (["1.1.1"], ["off", "on"]),
        (["12.1.1", "13.*"], ["on"]),
    ],
)
def test_cases_that_need_compression_run_with_it_only(cases, expected):
    assert compressions(cases) == expected
