"""The documentation site: its navigation, and where the links of its pages lead. `tox -e docs` builds it."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def configuration():
    pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib; Sphinx needs Python 3.11")
    return runpy.run_path(str(DOCS / "conf.py"))


def test_each_page_is_in_the_navigation_once(configuration):
    listed = ["index", *(page for pages in configuration["NAVIGATION"].values() for page in pages)]
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert pages <= set(listed)


def test_a_link_to_a_file_outside_of_the_docs_leads_to_the_repository(configuration):
    adapted = configuration["adapted"]
    source = configuration["SOURCE"]
    text = "[a](../README.md#why) [b](../examples) [c](aws.md)\n\n```sh\n[d](../README.md)\n```\n\n[e]: ../LICENSE\n"
    assert adapted("backend", text) == (
        f"[a]({source}/blob/main/README.md#why) [b]({source}/tree/main/examples) [c](aws.md)\n\n"
        f"```sh\n[d](../README.md)\n```\n\n[e]: {source}/blob/main/LICENSE\n"
    )


def test_a_link_between_folders_of_the_docs_stays_as_it_is(configuration):
    assert configuration["adapted"]("guides/rooms", "[a](../aws.md#events)") == "[a](../aws.md#events)"


def test_the_site_is_built_from_pinned_versions():
    text = (ROOT / "pyproject.toml").read_text()
    group = text.partition("\ndocs = [")[2].partition("]")[0]
    assert [each.count("==") for each in group.strip().splitlines()] == [1] * 5
