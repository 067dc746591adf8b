"""`GET /nodes`: the nodes of the cluster, or the only node."""

from functools import partial
from typing import Any

import orjson

from wsaas.api.peer_answers import PeerAnswers
from wsaas.api.route import Response
from wsaas.clock import rfc3339
from wsaas.cluster.router import Router
from wsaas.cluster.view import ClusterView, Member
from wsaas.errors import Gone
from wsaas.http.request import Request
from wsaas.http.serialize import OK, OutgoingResponse
from wsaas.sessions.registry import Registry

Content = dict[str, Any]


class NodesResource:
    """The nodes. What it says of the others is what they said when they last renewed their leases."""

    __slots__ = ("_address", "_registry", "_router", "_view")

    def __init__(self, registry: Registry, router: Router, view: ClusterView | None) -> None:
        """Describe the node of `registry` with its workers, and the nodes that `view` knows."""
        node_address = registry.services.settings.node_address
        self._address = node_address.url if node_address else None
        self._registry = registry
        self._router = router
        self._view = view

    def get(self, request: Request) -> Response:
        """List the nodes, by name. The workers of this node are asked how many clients they have."""
        registry, view = self._registry, self._view
        own: Content = {
            "node": view.own.node if view else registry.node,
            "name": view.own.name if view else registry.node,
            "address": self._address,
            "workers": 1,
            "clients": len(registry),
            "since": rfc3339(registry.started_at),
            "lease_age": None,
        }
        nodes = _Nodes(own)
        now = registry.services.clock.now()
        for member in view.members.values() if view else ():
            nodes.add_member(member, now)
        answers = PeerAnswers(nodes.response)
        for peer in self._router.within_node.processes.values():
            answers.ask(partial(peer.get, request, b"/nodes"), partial(nodes.add_worker, peer.name))
        answers.done()
        return answers.response(float("inf"))


class _Nodes:
    """The nodes, by name. `own`: this one."""

    __slots__ = ("_missing", "_nodes", "_own")

    def __init__(self, own: Content) -> None:
        self._missing: list[str] = []
        self._nodes: dict[str, Content] = {own["node"]: own}
        self._own = own

    def add_member(self, member: Member, now: float) -> None:
        """Add a process of another node."""
        age = round((now - member.renewed_at) * 1000)
        node = self._nodes.get(member.node)
        if node is self._own:
            return
        if node is None:
            self._nodes[member.node] = {
                "node": member.node,
                "name": member.name,
                "address": member.address,
                "workers": 1,
                "clients": member.clients,
                "since": rfc3339(member.since),
                "lease_age": age,
            }
        else:
            _add(node, {"workers": 1, "clients": member.clients, "since": rfc3339(member.since)})
            node["lease_age"] = max(node["lease_age"], age)

    def add_worker(self, name: str, answer: OutgoingResponse) -> None:
        """Add another worker of this node."""
        if answer.status == OK.status:
            _add(self._own, orjson.loads(answer.body)["nodes"][0])
        elif answer.status != Gone.status:
            self._missing.append(name)

    def response(self) -> OutgoingResponse:
        nodes = sorted(self._nodes.values(), key=lambda node: (node["name"], node["node"]))
        code = "PARTIAL" if self._missing else "OK"
        return OutgoingResponse(200, orjson.dumps({"code": code, "nodes": nodes, "missing": self._missing}))


def _add(node: Content, process: Content) -> None:
    node["workers"] += process["workers"]
    node["clients"] += process["clients"]
    node["since"] = min(node["since"], process["since"])
