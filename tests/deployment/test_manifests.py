"""The image, the compose files and the manifests for Kubernetes fit the gateway, and each other.

Their syntax is checked by the tox environment `lint`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from wsaas import settings
from wsaas.journals import DRAIN_GRACE_S

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
KUBERNETES = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
TRACE_EXPORT_S = 5.0
"""What docs/operations.md says of the stop with `TRACES`."""

SECRETS = {"CONTROL_TOKEN": "token", "API_SECRET": "whsec_" + 32 * "A", "CLUSTER_SECRET": 32 * "c", "NATS_TOKEN": "n1"}
POD_IP = "10.1.2.3"

Objects = list[dict[str, Any]]


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)", DOCKERFILE.rpartition("\nFROM ")[2], re.MULTILINE)
    variables = dict(each.split("=", 1) for each in block.replace("\\\n", " ").split())
    del variables["PATH"]
    return variables


def services(name: str) -> dict[str, Any]:
    """Return the services of a compose file, with what they extend."""
    found: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text())["services"]
    for service in found.values():
        if base := service.pop("extends", None):
            inherited = services(base["file"])[base["service"]]
            service["environment"] = {**inherited["environment"], **service["environment"]}
            service.update({key: value for key, value in inherited.items() if key not in service})
    return found


def objects(folder: str) -> Objects:
    """Return the objects in the files of a folder."""
    texts = [path.read_text() for path in sorted((KUBERNETES / folder).glob("*.yaml"))]
    return [each for text in texts for each in yaml.safe_load_all(text)]


def find(found: Objects, kind: str, name: str) -> dict[str, Any]:
    """Return the object with this kind and name."""
    (one,) = [each for each in found if each["kind"] == kind and each.get("metadata", {}).get("name") == name]
    return one


def literals(folder: str) -> dict[str, str]:
    """Return the settings that a kustomization puts into the ConfigMap."""
    kustomization = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]
    return dict(each.split("=", 1) for each in generator["literals"])


def pod_environment(*, cluster: bool) -> dict[str, str]:
    """Return the variables of a pod, as the kubelet sets them."""
    variables = image_environment() | literals("base")
    if not cluster:
        return variables
    variables |= literals("overlays/cluster")
    patch = find(objects("overlays/cluster"), "StatefulSet", "wsaas")
    (container,) = patch["spec"]["template"]["spec"]["containers"]
    for each in container["env"]:
        value = each.get("value") or {"POD_IP": POD_IP, "NATS_TOKEN": SECRETS["NATS_TOKEN"]}[each["name"]]
        variables[each["name"]] = re.sub(r"\$\((\w+)\)", lambda match: variables[match[1]], value)
    return variables


def compose_environments() -> Iterator[Any]:
    for file in ("compose.yaml", "compose.cluster.yaml"):
        for name, service in services(file).items():
            if service["image"] == "wsaas":
                variables = image_environment() | service["environment"]
                replaced = {
                    key: re.sub(r"\$\{(\w+):.*\}", lambda match: SECRETS[match[1]], value)
                    for key, value in variables.items()
                }
                yield pytest.param(replaced, id=f"{file}: {name}")


ENVIRONMENTS = [
    pytest.param(image_environment() | {"API_URI": "backend/"}, id="image"),
    *compose_environments(),
    pytest.param(pod_environment(cluster=False), id="overlays/single"),
    pytest.param(pod_environment(cluster=True), id="overlays/cluster"),
]


def load(variables: Mapping[str, str], folder: Path) -> settings.Settings:
    """Return the settings of a gateway with these variables, and with the secret files that they name."""
    given = dict(variables)
    for name in [each for each in given if each.endswith("_FILE")]:
        (folder / name).write_text(SECRETS[name.removesuffix("_FILE")])
        given[name] = str(folder / name)
    return settings.load({}, given)


@pytest.mark.parametrize("variables", ENVIRONMENTS)
def test_every_variable_is_a_setting_with_a_valid_value(variables, tmp_path):
    load(variables, tmp_path)
    known = {settings.variable(each) for each in fields(settings.Settings)}
    known |= {f"{name}_FILE" for name in known} | {"POD_IP", "NATS_TOKEN"}
    assert set(variables) <= known


@pytest.mark.parametrize("variables", ENVIRONMENTS)
def test_the_gateway_listens_on_the_ports_that_the_image_exposes(variables, tmp_path):
    (exposed,) = re.findall(r"^EXPOSE (.+)", DOCKERFILE, re.MULTILINE)
    loaded = load(variables, tmp_path)
    assert loaded.listen is not None
    assert loaded.control_listen is not None
    assert not loaded.listen.is_loopback
    assert [str(loaded.listen.port), str(loaded.control_listen.port)] == exposed.split()
    # The others reach the REST API at the port where it listens.
    assert loaded.ws_hostname.port == loaded.control_listen.port
    if loaded.cluster:
        assert loaded.node_address is not None
        assert loaded.node_address.port == loaded.control_listen.port


def test_the_ports_of_the_pods_are_those_of_the_gateway_and_of_the_services():
    base = objects("base")
    (container,) = find(base, "StatefulSet", "wsaas")["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"clients": 8080, "api": 8081}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[kind]["httpGet"]["port"] == "api"
    targets = {
        each["metadata"]["name"]: [(port["port"], port["targetPort"]) for port in each["spec"]["ports"]]
        for each in base
        if each["kind"] == "Service"
    }
    assert targets == {"wsaas": [(80, "clients")], "wsaas-api": [(8081, "api")], "wsaas-nodes": [(8081, "api")]}
    allowed = [rule["ports"][0]["port"] for rule in find(base, "NetworkPolicy", "wsaas")["spec"]["ingress"]]
    assert allowed == ["clients", "api"]


def test_the_names_in_the_settings_are_those_of_services():
    namespace = find(objects("base"), "Namespace", "wsaas")["metadata"]["name"]
    assert literals("base")["WS_HOSTNAME"] == f"wsaas-api.{namespace}.svc:8081"
    for folder in ("base", "overlays/cluster", "nats"):
        assert yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["namespace"] == namespace
    nats = objects("nats")
    server = find(nats, "StatefulSet", "wsaas-nats")
    hosts = [f"wsaas-nats-{index}.{server['spec']['serviceName']}" for index in range(server["spec"]["replicas"])]
    assert re.findall(r"@([\w.-]+):4222", pod_environment(cluster=True)["CLUSTER"]) == hosts
    assert re.findall(r"nats://([\w.-]+):6222", (KUBERNETES / "nats" / "nats.conf").read_text()) == hosts


def test_secrets_are_mounted_where_the_settings_say():
    container = find(objects("base"), "StatefulSet", "wsaas")["spec"]["template"]["spec"]["containers"][0]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    variables = pod_environment(cluster=True)
    files = [value for name, value in variables.items() if name.endswith("_FILE")]
    assert len(files) == 3
    assert all(Path(each).parent == Path(mounts["secrets"]) for each in files)
    assert Path(variables["JOURNAL"]).parent == Path(mounts["journal"])
    assert f'VOLUME ["{mounts["journal"]}"]' in DOCKERFILE


def test_a_pod_has_time_to_drain(tmp_path):
    pod = find(objects("base"), "StatefulSet", "wsaas")["spec"]["template"]["spec"]
    before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = before + load(pod_environment(cluster=True), tmp_path).drain_timeout + DRAIN_GRACE_S + TRACE_EXPORT_S
    assert pod["terminationGracePeriodSeconds"] > needed


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cluster.yaml"])
def test_a_container_has_time_to_drain(file):
    gateways = [each for each in services(file).values() if each["image"] == "wsaas"]
    assert gateways
    for each in gateways:
        needed = int(each["environment"]["DRAIN_TIMEOUT"]) / 1000 + DRAIN_GRACE_S + TRACE_EXPORT_S
        assert int(each["stop_grace_period"].removesuffix("s")) > needed


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cluster.yaml"])
def test_what_a_gateway_needs_while_it_drains_is_stopped_after_it(file):
    found = services(file)
    for each in found.values():
        if each["image"] == "wsaas":
            assert set(each["depends_on"]) == {name for name in found if not name.startswith("gateway")}


@pytest.mark.parametrize("name", ["Dockerfile", "backend.Dockerfile"])
def test_the_context_of_a_build_is_what_the_dockerfile_copies(name):
    copies = re.findall(r"^COPY (.+) \S+$", (DOCKER / name).read_text(), re.MULTILINE)
    sources = {each for line in copies if "--from" not in line for each in line.split() if not each.startswith("--")}
    everything, *lines = [
        line for line in (DOCKER / f"{name}.dockerignore").read_text().splitlines() if not line.startswith("#")
    ]
    assert everything == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == sources
    assert all((ROOT / each).exists() for each in sources)
    # A wheel cannot be built without them.
    shared = (ROOT / "pyproject.toml").read_text().partition("[tool.hatch.build.targets.wheel.shared-data]\n")[2]
    assert set(re.findall(r'^"(.+)" = ', shared.partition("\n[")[0], re.MULTILINE)) <= sources


def test_the_user_has_the_number_that_the_pods_run_as():
    (user,) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    context = find(objects("base"), "StatefulSet", "wsaas")["spec"]["template"]["spec"]["securityContext"]
    assert user == (str(context["runAsUser"]), str(context["runAsGroup"]))
    assert context["fsGroup"] == context["runAsGroup"]


@pytest.mark.parametrize(("folder", "name"), [("base", "wsaas"), ("nats", "wsaas-nats")])
def test_pods_meet_the_restricted_pod_security_standard(folder, name):
    pod = find(objects(folder), "StatefulSet", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == expected


def test_prometheus_gets_the_alerts_of_the_file():
    rule = find(objects("components/monitoring"), "PrometheusRule", "wsaas")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())


def test_prometheus_scrapes_each_node_once():
    monitor = find(objects("components/monitoring"), "ServiceMonitor", "wsaas")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    selected = [
        each for each in objects("base") if each["kind"] == "Service" and wanted <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in selected] == ["wsaas-nodes"]
    assert monitor["spec"]["endpoints"][0]["port"] == selected[0]["spec"]["ports"][0]["name"]


def test_the_image_installs_what_the_package_needs():
    pyproject = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|cluster|otel) = (\[.*\])$", pyproject, re.MULTILINE)
    assert len(lists) == 3
    wanted = [Requirement(each) for text in lists for each in json.loads(text)]
    lines = re.findall(r"^([\w.-]+)==(\S+)", (DOCKER / "requirements.txt").read_text(), re.MULTILINE)
    locked = {name.replace("_", "-"): version for name, version in lines}
    for each in wanted:
        assert each.specifier.contains(locked[each.name]), each


def test_a_client_of_the_cluster_cannot_claim_an_address():
    (node, *_) = services("compose.cluster.yaml").values()
    trusted = settings.load({"api_uri": "x/", "trusted_proxies": node["environment"]["TRUSTED_PROXIES"]}, {})
    proxy, client, claimed = "172.18.0.5", "192.168.1.5", "8.8.8.8"
    # Of what is appended, the gateway would believe the claim of a client in a private network.
    assert trusted.trusted_proxies.client(proxy, [claimed, client]) == claimed
    assert trusted.trusted_proxies.client(proxy, [client]) == client
    config = (DOCKER / "haproxy.cfg").read_text()
    assert "http-request set-header X-Forwarded-For %[src]" in config
    assert "option forwardfor" not in config
