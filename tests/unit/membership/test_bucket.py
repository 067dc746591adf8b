"""Requests to JetStream about a bucket, and its answers."""

import asyncio
from typing import Any

import pytest

from tests.support.buckets import FakeBus
from wsaas.membership.bucket import Bucket, BucketError

GOOD = {
    "allow_msg_ttl": True,
    "allow_rollup_hdrs": True,
    "subject_delete_marker_ttl": 10**10,
    "max_msgs_per_subject": 1,
}
INFO = {"config": GOOD, "created": "today"}


def error(code: int, text: str = "why") -> dict[str, Any]:
    return {"error": {"code": 400, "err_code": code, "description": text}}


@pytest.fixture
def bus() -> FakeBus:
    return FakeBus()


def test_a_bucket_that_exists_is_used(bus):
    bus.answers["INFO"] = [INFO]
    assert asyncio.run(Bucket(bus, "b").set_up()) == "today"
    assert [subject for subject, _ in bus.requests] == ["$JS.API.STREAM.INFO.KV_b"]


def test_a_bucket_is_created_on_three_servers(bus):
    bus.answers = {"INFO": [error(10059)], "CREATE": [INFO]}
    assert asyncio.run(Bucket(bus, "b").set_up()) == "today"
    assert bus.requests[1][1]["num_replicas"] == 3


@pytest.mark.parametrize("code", [10074, 10005])
def test_a_bucket_is_created_on_one_server_if_there_are_no_three(bus, code):
    bus.answers = {"INFO": [error(10059)], "CREATE": [error(code), INFO]}
    assert asyncio.run(Bucket(bus, "b").set_up()) == "today"
    assert bus.requests[2][1]["num_replicas"] == 1


def test_another_process_may_create_it_at_the_same_time(bus):
    bus.answers = {"INFO": [error(10059), INFO], "CREATE": [error(10058)]}
    assert asyncio.run(Bucket(bus, "b").set_up()) == "today"


@pytest.mark.parametrize("answers", [{"INFO": [error(1)]}, {"INFO": [error(10059)], "CREATE": [error(10047)]}])
def test_other_errors_are_reported(bus, answers):
    bus.answers = answers
    with pytest.raises(BucketError, match=r"^JetStream: why$"):
        asyncio.run(Bucket(bus, "b").set_up())


@pytest.mark.parametrize("name", [*GOOD, "max_age"])
def test_a_bucket_that_was_made_otherwise_is_refused(bus, name):
    bus.answers["INFO"] = [{"config": {**GOOD, name: 5 if name == "max_age" else None}, "created": ""}]
    with pytest.raises(BucketError, match=f"the bucket b was made with another {name}: delete it"):
        asyncio.run(Bucket(bus, "b").set_up())


def test_without_an_answer_there_is_an_error(bus):
    with pytest.raises(BucketError, match="JetStream does not answer: it is disabled, slow, without a leader"):
        asyncio.run(Bucket(bus, "b").get("k"))
    bus.is_connected = False
    with pytest.raises(BucketError, match="NATS is not connected"):
        asyncio.run(Bucket(bus, "b").get("k"))


def test_a_key_that_does_not_exist_is_none_and_other_errors_are_reported(bus):
    bus.answers["GET"] = [error(10037), error(5)]
    assert asyncio.run(Bucket(bus, "b").get("k")) is None
    with pytest.raises(BucketError):
        asyncio.run(Bucket(bus, "b").get("k"))


def test_keys_are_read_in_pages(bus):
    pages = [["$KV.b.a", "$KV.b.b"], ["$KV.b.c"], None]
    bus.answers["INFO"] = [{"total": 4, "state": {"subjects": page and dict.fromkeys(page, 1)}} for page in pages]
    assert asyncio.run(Bucket(bus, "b").keys("*")) == ["a", "b", "c"]
    assert [request["offset"] for _, request in bus.requests] == [0, 2, 3]
