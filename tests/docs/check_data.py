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
        assert kinds(value), "it is none of the schemas in wsaas/api/openapi.json"


def kinds(value: Any) -> list[str]:
    """Return the names of the schemas that a value is of. A member that a schema does not have is an error here."""
    return [
        name
        for name, schema in [*SCHEMAS.items(), ("OK", OK)]
        if isinstance(value, dict) and value.keys() <= properties(schema).keys() and _is_valid(value, schema)
    ]


def _is_valid(value: Any, schema: dict[str, Any]) -> bool:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]}).is_valid(value)


def check_yaml(block: Block) -> None:
    """Raise unless it is YAML that is part of a file in deploy/, or a configuration of Prometheus for this gateway."""
    documents = list(yaml.safe_load_all(block.text))
    if block.elsewhere or is_deployed(block.text):
        return
    for each in documents:
        assert each.keys() == {"scrape_configs", "rule_files"}, "it is in no file of deploy/"
        for name in each["rule_files"]:
            assert (ROOT / "deploy" / "prometheus" / name).is_file()


def check_configuration(block: Block) -> None:
    """Raise unless it is part of a file in deploy/, where tests use it; a line `...` or `…` stands for others."""
    assert block.elsewhere or is_deployed(block.text), "it is in no file of deploy/, and no test in ELSEWHERE uses it"


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
