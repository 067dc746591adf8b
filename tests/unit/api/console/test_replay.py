"""Requests that are sent again."""

import orjson

from tests.support.console_rig import ConsoleRig
from wsaas.api.api import Api
from wsaas.events import Message


def test_replays_are_numbered_and_counted_together_whichever_process_is_asked():
    rig = ConsoleRig()
    watch = rig.watcher.find(rig.session.id)
    assert watch is not None
    rig.session.receive(Message(text=True, data=b"hello"))
    recorded = [watch.ring.get(index) for index in range(watch.ring.count)]
    seq = next(each.seq for each in recorded if each.kind == "request")
    # The other workers of the node have an API of their own.
    private = Api(rig.registry.services.settings, rig.registry, rig.fan_out, console=rig.console)
    path, body = f"/console/api/connections/{rig.session.id}/replay", orjson.dumps({"seq": seq})
    for api in (rig.api, private, rig.api, private):
        api.respond(rig.request("POST", path, body=body))
    replayed = rig.pool.sent[1:]
    for number, exchange in enumerate(replayed, 1):
        assert b"ce-id: %b:1:replay-%d\r\n" % (rig.session.id.encode(), number) in exchange.request
    assert len(replayed) == 4
    assert rig.ask("POST", path, body=body).status == 429
