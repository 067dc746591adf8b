"""Checks of JavaScript: Node can parse it as a module, and what it imports of this project is exported there."""

import json
import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser

import pytest

from tests.docs.code_blocks import ROOT, Block, blocks

PARSE = """
const { SourceTextModule } = require("node:vm");
const errors = JSON.parse(require("node:fs").readFileSync(0, "utf8")).map((source) => {
  try { new SourceTextModule(source); return ""; } catch (error) { return String(error); }
});
console.log(JSON.stringify(errors));
"""
OF_THIS_PROJECT = re.compile(r"import \{([^}]*)\} from [\"'](?:wsaas-client|/wsaas-client\.js)[\"']")


class Scripts(HTMLParser):
    """The scripts of a page, and its elements that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.in_script = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.in_script = tag == "script"
        if self.in_script:
            self.scripts.append("")

    def handle_endtag(self, _tag: str) -> None:
        self.in_script = False

    def handle_data(self, data: str) -> None:
        if self.in_script:
            self.scripts[-1] += data


def sources(block: Block) -> list[str]:
    """Return the scripts of a block."""
    return Scripts(block.text).scripts if block.language == "html" else [block.text]


@cache
def errors() -> dict[str, str]:
    """Return the syntax error of each script of the documentation: one process parses all of them."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is missing, which parses the scripts")
    scripts = [each for block in blocks() if block.language in {"js", "html"} for each in sources(block)]
    command = [node, "--experimental-vm-modules", "--no-warnings", "--eval", PARSE]
    done = subprocess.run(command, input=json.dumps(scripts), capture_output=True, text=True, check=True)
    return dict(zip(scripts, json.loads(done.stdout), strict=True))


def check_javascript(block: Block) -> None:
    """Raise unless the scripts of a block can be parsed, and what they import exists."""
    exported = (ROOT / "clients" / "js" / "index.js").read_text()
    assert sources(block), "there is no script in it"
    for script in sources(block):
        assert errors()[script] == ""
        for names in OF_THIS_PROJECT.findall(script):
            for name in re.findall(r"\w+", names):
                assert re.search(rf"^export (async )?(class|function|const) {name}\b", exported, re.MULTILINE), name
