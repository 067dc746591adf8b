"""The generated parts of the documentation are those of the code."""

import pytest

from tests.docs.generated import DOCS, PARTS, filled
from tests.docs.rest_operations import COMMON, COMMON_PARAMETER
from tests.support.openapi import DOCUMENT
from wsaas.cli.arguments import COMMANDS


@pytest.mark.parametrize("page", PARTS)
def test_a_page_has_what_is_generated_from_the_code(page):
    text = (DOCS / page).read_text()
    assert filled(page, text) == text, "write it anew with: python -m tests.docs.generated"


def test_the_page_of_the_rest_api_has_each_operation():
    text = (DOCS / "rest.md").read_text()
    for path, item in DOCUMENT["paths"].items():
        for method in {"get", "put", "post", "delete"} & set(item):
            assert text.count(f"\n### `{method.upper()} {path}`\n") == 1


def test_the_answers_that_the_operations_leave_out_are_named_above_them():
    introduction = (DOCS / "rest.md").read_text().partition("## Operations\n")[2].partition("###")[0]
    assert COMMON == ("Unauthorized", "Forbidden", "Misdirected", "HttpError")
    assert f"421 `MISDIRECTED` if its header `{COMMON_PARAMETER}`" in introduction
    assert "401 `UNAUTHORIZED`" in introduction
    assert "403 `FORBIDDEN`" in introduction
    assert "[errors](#errors)" in introduction


def test_the_page_of_the_command_line_has_each_command():
    text = (DOCS / "command-line.md").read_text()
    for command in COMMANDS:
        assert f"\n## `wsaas {command}`\n" in text or f"| `wsaas {command}` |" in text
