"""Each code block of the documentation is executed or compared: a block that no check covers fails."""

from collections.abc import Callable

import pytest

from tests.docs.check_data import check_configuration, check_ini, check_json, check_nginx, check_yaml
from tests.docs.check_javascript import check_javascript
from tests.docs.check_python import check_python
from tests.docs.check_shell import check_shell
from tests.docs.check_text import check_text
from tests.docs.code_blocks import ELSEWHERE, PAGES, ROOT, Block, blocks, blocks_of, unclosed_fences
from wsaas.errors import SettingError

CHECKS: dict[str, Callable[[Block], None]] = {
    "": check_text,
    "caddyfile": check_configuration,
    "dockerfile": check_configuration,
    "haproxy": check_configuration,
    "html": check_javascript,
    "ini": check_ini,
    "js": check_javascript,
    "json": check_json,
    "nginx": check_nginx,
    "python": check_python,
    "sh": check_shell,
    "text": check_text,
    "yaml": check_yaml,
}


def check(block: Block) -> None:
    """Raise if something is wrong with a block, or nothing covers it."""
    assert block.language in CHECKS, f"no check covers the language {block.language!r}"
    CHECKS[block.language](block)


@pytest.mark.parametrize("block", list(blocks()), ids=str)
def test_a_code_block_is_executed_or_compared(block):
    check(block)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_each_fence_begins_or_ends_a_block(page):
    assert unclosed_fences(page.read_text()) == []


@pytest.mark.parametrize(("page", "language"), list(ELSEWHERE))
def test_a_block_that_is_checked_elsewhere_exists_and_its_test_reads_the_page(page, language):
    assert any((each.page, each.language) == (page, language) for each in blocks())
    source = (ROOT / ELSEWHERE[page, language]).read_text()
    assert page.rpartition("/")[2] in source


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("sh", "wsaas --no-such-flag"),
        ("sh", "WS_TIMEOUT=soon wsaas"),
        ("sh", "NO_SUCH_SETTING=1 wsaas"),
        ("sh", "wsaas demo &&"),
        ("sh", "no-such-program"),
        ("sh", 'echo "$(no-such-program)"'),
        ("sh", "cp deploy/no-such-file ."),
        ("sh", "curl http://localhost:8080/no-such-path"),
        ("sh", "curl -X POST http://localhost:8080/groups/lobby"),
        ("sh", "curl 'http://localhost:8080/groups/lobby?no-such-parameter=1'"),
        ("sh", "pip install 'wsaas[no-such-extra]'"),
        ("sh", "tox -e no-such-environment"),
        ("sh", "python -m benchmarks no-such-case"),
        ("sh", "python -m benchmarks push --no-such-flag"),
        ("sh", "pytest tests/no-such-folder"),
        ("python", "import"),
        ("python", "from no_such_module import unknown\nunknown(undefined)"),
        ("python", "from wsaas import backend\nbackend.no_such_name(undefined)"),
        ("python", "from wsaas.backend import NoSuchName\nNoSuchName(undefined)"),
        ("python", "print('a whole program that no test executes')"),
        ("json", '{"code": "OK", "no_such_member": 1}'),
        ("json", "{"),
        ("yaml", "a: 1"),
        ("ini", "[Socket]\nNoSuchDirective=yes"),
        ("nginx", "no_such_directive on;"),
        ("", "words that the gateway does not print"),
        ("", "2026-01-31T12:00:00.123Z INFO words that the gateway does not log"),
        ("", "2026-01-31T12:00:00.123Z LOUD stopping within 30 s"),
        ("ruby", "puts 1"),
    ],
)
def test_a_block_that_is_wrong_is_found(language, text):
    (block,) = blocks_of("README.md", f"```{language}\n{text}\n```\n")
    block = Block("docs/index.md" if language == "" else "docs/metrics.md", language, block.text, 1)
    with pytest.raises((AssertionError, SettingError, ValueError, SyntaxError)):
        check(block)
