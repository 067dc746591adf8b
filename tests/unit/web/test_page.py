"""Pages of one file: the parts are inside, nothing comes from elsewhere, and the policy allows what is inside."""

import base64
import hashlib
import re
from importlib import resources

import pytest

from wsaas.console_page import console_page, content_security_policy
from wsaas.web.page import Page, load

OWN = resources.files("wsaas.console_page").joinpath("parts")
NAMES = sorted(each.name for each in OWN.iterdir() if each.name.endswith((".css", ".js")))
SHARED = sorted(each.name for each in resources.files("wsaas.web").joinpath("shared").iterdir())


def test_the_page_is_put_together_once() -> None:
    assert console_page() is console_page()
    assert console_page() == load("wsaas.console_page", "parts").html


def test_the_page_has_one_style_and_one_script_which_the_policy_allows() -> None:
    policy = content_security_policy()
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), console_page(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside).digest()).decode()
        assert f"; {tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", NAMES)
def test_each_part_is_in_the_page_and_says_what_it_is_for(name: str) -> None:
    text = OWN.joinpath(name).read_text("utf-8")
    assert text.encode() in console_page()
    assert re.match(r"// ---- \w|  /\* \w", text)


@pytest.mark.parametrize("name", SHARED)
def test_each_shared_part_is_in_both_pages(name: str) -> None:
    text = resources.files("wsaas.web").joinpath("shared", name).read_text("utf-8").encode()
    assert text in console_page()
    assert text in load("wsaas.demo", "web").html


@pytest.mark.parametrize("page", [console_page(), load("wsaas.demo", "web").html], ids=["console", "demo"])
def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup(page: bytes) -> None:
    text = page.decode()
    assert not re.search(r"/\* [\w/-]+\.(css|js) \*/", text), "no part is missing"
    assert not re.search(r"\bsrc=|@import|\burl\(", text)
    assert {each for each in re.findall(r"""href=["']([^#"']*)""", text) if each} <= {"data:,"}
    assert {each.rstrip("/") for each in re.findall(r"https?://[\w.]+[\w/]*", text)} <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc", text)
    assert not re.search(r"<[a-z][^>]*\s(on[a-z]+|style)=", text), "the policy forbids them"


def test_a_page_without_a_part_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        load("wsaas.console_page", "elsewhere")


def test_a_page_is_its_html_and_its_sources() -> None:
    assert load("wsaas.demo", "web") == Page(load("wsaas.demo", "web").html, load("wsaas.demo", "web").sources)
