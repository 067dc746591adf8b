"""Checks of JSON, YAML and configuration: schemas of the OpenAPI document, and the files in deploy/."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.docs.code_blocks import ROOT, Block
from tests.docs.rest_operations import properties
from tests.support.openapi import DOCUMENT

SCHEMAS = DOCUMENT["components"]["schemas"]
OK = {"type": "object", "required": ["code"], "properties": {"code": {"const": "OK"}}}
ID = "q3ZKx0aTdFz3SVRbrQqKHCtCWhRzoQ"


def check_json(block: Block) -> None:
    """Raise unless it is JSON, and an event, an answer or a body that the OpenAPI document describes."""
    value = json.loads(re.sub(r"[\w-]+…", ID, block.text))
    if block.elsewhere is None:
        is_shortened = "shortened" in block.page_text.partition(block.text)[2].partition("\n\n")[2].partition("\n\n")[0]
        assert kinds(value, is_shortened), "it is none of the schemas in wsaas/api/openapi.json"


def kinds(value: Any, is_shortened: bool = False) -> list[str]:
    """Return the names of the schemas that a value is of. A member that a schema does not have is an error here."""
    schemas = [*SCHEMAS.items(), ("OK", OK)] if isinstance(value, dict) else []
    described = [(name, schema) for name, schema in schemas if value.keys() <= properties(schema).keys()]
    return [name for name, schema in described if _is_valid(value, schema, is_shortened)]


def _is_valid(value: Any, schema: dict[str, Any], is_shortened: bool) -> bool:
    """Tell whether a value is of a schema. In a shortened one, objects within it may lack members."""
    errors = Draft202012Validator({**schema, "components": DOCUMENT["components"]}).iter_errors(value)
    return all(is_shortened and error.validator == "required" and error.path for error in errors)


def check_yaml(block: Block) -> None:
    """Raise unless it is YAML that is part of a file in deploy/, or a configuration of Prometheus for this gateway."""
    if block.elsewhere or is_deployed(block.text):
        return
    for each in yaml.safe_load_all(block.text):
        assert each.keys() == {"scrape_configs", "rule_files"}, "it is in no file of deploy/"
        for name in each["rule_files"]:
            assert (ROOT / "deploy" / "prometheus" / name).is_file()


def check_configuration(block: Block) -> None:
    """Raise unless it is part of a file in deploy/, where tests use it; a line `...` or `…` stands for others."""
    assert block.elsewhere or is_deployed(block.text), "it is in no file of deploy/, and no test in ELSEWHERE uses it"


def check_ini(block: Block) -> None:
    """Raise unless it is part of a file in deploy/, or has only directives that systemd knows."""
    if block.elsewhere or is_deployed(block.text):
        return
    systemd = shutil.which("systemd", path=f"{os.environ['PATH']}:/lib/systemd:/usr/lib/systemd")
    if systemd is None:
        pytest.skip("systemd is missing, which knows the directives of this block")
    done = subprocess.run([systemd, "--dump-configuration-items"], capture_output=True, text=True, check=True)
    known, section = _directives(done.stdout), ""
    for line in _lines(block.text):
        section = line if line.startswith("[") else section
        assert line == section or line.partition("=")[0] in known[section], f"systemd has no {line} in {section}"


def _directives(dumped: str) -> dict[str, set[str]]:
    """Return the directives of each section, as systemd prints them."""
    known: dict[str, set[str]] = {"": set()}
    for line in dumped.splitlines():
        if line.startswith("["):
            names = known.setdefault(line, set())
        elif "=" in line:
            names.add(line.partition("=")[0])
    return known


def check_nginx(block: Block) -> None:
    """Raise unless it is part of a file in deploy/, or nginx accepts it within a server."""
    if block.elsewhere or is_deployed(block.text):
        return
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is missing, which reads this block")
    with TemporaryDirectory() as folder:
        configuration = Path(folder) / "nginx.conf"
        server = f"server {{ listen 127.0.0.1:8080; {block.text} }}"
        configuration.write_text(f"pid {folder}/pid; events {{}} http {{ access_log off; {server} }}")
        command = [nginx, "-t", "-q", "-p", folder, "-e", f"{folder}/error", "-c", str(configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def is_deployed(text: str) -> bool:
    """Tell whether a file in deploy/ has these lines in this order, apart from indentation and comments."""
    wanted = _lines(text)
    return any(
        _contains(_lines(path.read_text(errors="replace")), wanted)
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file()
    )


def _lines(text: str) -> list[str]:
    stripped = (re.sub(r"(^|\s+)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in stripped if line and line not in {"...", "…"}]


def _contains(lines: list[str], wanted: list[str]) -> bool:
    rest = iter(lines)
    return all(line in rest for line in wanted)
