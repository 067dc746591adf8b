"""Builds the documentation site with Sphinx: `tox -e docs`.

The pages are plain Markdown, which GitHub shows as well. So what only the site needs is here: the navigation, which is
appended to the page index.md, and the addresses of files that are not pages.
"""

import re
import shutil
from pathlib import Path
from posixpath import normpath
from typing import Any

import tomllib

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE = PROJECT["urls"]["Source"]

NAVIGATION = {
    "Start": ["quickstart", "install", "backend", "javascript", "check"],
    "Guides": [
        "guides/browser-authentication",
        "guides/rooms",
        "guides/reconnecting",
        "guides/rolling-deploys",
        "guides/retries",
        "guides/scaling-out",
        "guides/from-aws",
        "guides/from-azure",
        "guides/from-socketio",
    ],
    "Deployment": ["deployment/systemd", "deployment/docker", "deployment/kubernetes", "deployment/proxies"],
    "Reference": [
        "reference",
        "contract",
        "settings",
        "command-line",
        "rest",
        "metrics",
        "close-codes",
        "limits",
        "aws",
        "azure",
        "compatibility",
    ],
    "Operations": ["operations", "sizing", "alerts", "troubleshooting", "log", "console", "cluster"],
    "Internals": ["architecture", "compiled", "performance", "security"],
}
"""The pages, without `index`, which comes first."""

project = "WSaaS"
author = "the WSaaS contributors"
project_copyright = author
release = version = PROJECT["version"]
language = "en"

extensions = ["myst_parser", "sphinx_copybutton", "notfound.extension"]
exclude_patterns = ["_static"]
nitpicky = True
myst_heading_anchors = 4
# A prompt or an output is not copied.
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "WSaaS"
html_baseurl = "https://wsaas.github.io/wsaas/"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_theme_options = {
    "source_repository": SOURCE,
    "source_branch": "main",
    "source_directory": "docs/",
    "top_of_page_buttons": ["edit"],
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"

notfound_urls_prefix = "/wsaas/"
notfound_context = {
    "title": "Page not found",
    "body": """<h1>Page not found</h1>
<p>This address has no page. It may have moved: try the search, or begin at the <a href="/wsaas/index.html">start</a> or
in the <a href="/wsaas/reference.html">reference</a>.</p>""",
}

# `tox -e docs-links` requests the addresses of other sites. GitHub adds the anchors of lines by JavaScript.
linkcheck_anchors_ignore_for_url = [r"https://github\.com/.*"]
linkcheck_ignore = [r"https?://localhost.*", r"https?://127\.0\.0\.1.*", r"https?://[\w.-]*example\.(com|org).*"]
linkcheck_retries = 2
linkcheck_timeout = 20

CODE = re.compile(r"^(?P<fence>`{3,}).*?^(?P=fence)`*$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\]\(|^\[[^\]\n]+\]: )(\.\./[^)\s#]*)", re.MULTILINE)


def contents() -> str:
    """Return the navigation as the directives that Sphinx reads."""
    return "".join(
        f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in NAVIGATION.items()
    )


def address(page: str, target: str) -> str:
    """Return where a relative link of a page leads: files that are not in docs are in the repository."""
    path = normpath(f"docs/{page}/../{target}")
    if path.startswith("docs/"):
        return target
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{SOURCE}/{kind}/main/{path}"


def adapted(page: str, text: str) -> str:
    """Return the text of a page with links that work on the site."""
    parts, done = [], 0
    for code in [*CODE.finditer(text), None]:
        prose = text[done : code.start() if code else len(text)]
        parts.append(LINK.sub(lambda link: link[1] + address(page, link[2]), prose))
        if code:
            parts.append(code[0])
            done = code.end()
    return "".join(parts) + (contents() if page == "index" else "")


def adapt(_app: Any, page: str, source: list[str]) -> None:
    """Change the text of a page before Sphinx reads it."""
    source[0] = adapted(page, source[0])


def copy_images(app: Any, error: Exception | None) -> None:
    """Copy the images that pages name in HTML, which Sphinx does not see: those for a light and a dark theme."""
    if error is None and app.builder.format == "html":
        shutil.copytree(DOCS / "images", Path(app.outdir) / "images", dirs_exist_ok=True)


def setup(app: Any) -> None:
    """Register what is above. Sphinx calls this."""
    from pygments.lexers.special import TextLexer  # noqa: PLC0415 - a test reads this file without Sphinx

    app.connect("source-read", adapt)
    app.connect("build-finished", copy_images)
    for language_without_lexer in ("caddyfile", "haproxy"):
        app.add_lexer(language_without_lexer, TextLexer)
