"""Files at the root of the repository agree with each other: what one of them repeats is the same in all of them."""

import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
TOX = (ROOT / "tox.ini").read_text()
GIT = shutil.which("git")
GITHUB = ROOT / ".github"
YAML_FILES = [ROOT / ".pre-commit-config.yaml", *sorted(GITHUB.rglob("*.yml"))]


def env_list() -> list[str]:
    """Return the environments that tox runs by default, with `py{310,311}` expanded."""
    config = ConfigParser()
    config.read_string(TOX)
    expanded = re.sub(
        r"([\w-]+)\{([\d,]+)\}",
        lambda match: ", ".join(match[1] + each for each in match[2].split(",")),
        config["tox"]["env_list"],
    )
    return re.split(r",\s*", expanded.strip())


def environment(version: str) -> str:
    """Return tox's name for a version of Python: `py310` for `3.10`."""
    return "py" + version.replace(".", "")


def matrix(workflow: str) -> list[dict[str, str]]:
    """Return the combinations in which a workflow runs tox."""
    jobs = yaml.safe_load((GITHUB / "workflows" / workflow).read_text())["jobs"]
    include: list[dict[str, str]] = jobs["tox"]["strategy"]["matrix"]["include"]
    return include


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_yaml_files_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_tox_runs_every_version_of_python_that_the_classifiers_name():
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)
    assert [environment(each) for each in versions] == [each for each in env_list() if each.startswith("py")]
    assert f'requires-python = ">={versions[0]}"' in PYPROJECT
    assert f'target-version = "{environment(versions[0])}"' in PYPROJECT


def test_the_workflow_runs_every_environment_of_tox():
    assert sorted(each["environment"] for each in matrix("tests.yml")) == sorted(env_list())


def test_the_workflow_runs_the_tests_with_the_python_of_their_environment():
    tests = [each for each in matrix("tests.yml") if each["environment"].startswith("py")]
    assert [environment(each["python"]) for each in tests] == [each["environment"] for each in tests]


def test_the_weekly_workflow_names_environments_that_tox_has():
    for each in matrix("long-tests.yml"):
        assert f"[testenv:{each['environment']}]" in TOX


def test_pre_commit_uses_the_versions_of_pyproject():
    pinned = dict(re.findall(r'"([\w-]+)==([\w.]+)"', PYPROJECT))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {each["repo"].rpartition("/")[2]: each["rev"] for each in hooks if each["repo"] != "local"}
    versions = {name.removesuffix("-pre-commit"): revision.removeprefix("v") for name, revision in revisions.items()}
    assert set(versions) == {"check-jsonschema", "ruff", "zizmor"}
    assert versions == {name: pinned[name] for name in versions}


def test_local_pre_commit_hooks_run_environments_that_tox_has():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (local,) = (each for each in hooks if each["repo"] == "local")
    minimum = re.search(r"^min_version = (.+)$", TOX, re.MULTILINE)
    assert minimum
    for hook in local["hooks"]:
        assert hook["entry"].rpartition(" ")[2] in env_list()
        assert hook["additional_dependencies"] == [f"tox>={minimum[1]}"]


def test_lint_checks_every_issue_form():
    for path in (GITHUB / "ISSUE_TEMPLATE").iterdir():
        assert str(path.relative_to(ROOT)) in TOX


def test_all_addresses_of_the_repository_are_the_one_of_pyproject():
    source = re.search(r'^Source = "(.+)"$', PYPROJECT, re.MULTILINE)
    assert source
    texts = [PYPROJECT, (GITHUB / "ISSUE_TEMPLATE" / "config.yml").read_text(), (ROOT / "CONTRIBUTING.md").read_text()]
    addresses = [each for text in texts for each in re.findall(r"https://github\.com/[\w.-]+/wsaas", text)]
    assert set(addresses) == {source[1]}


def test_the_metadata_and_the_readme_lead_to_the_same_pages():
    paths = re.findall(r'^(\w+) = "https://github\.com/wsaas/wsaas/blob/main/(.+)"$', PYPROJECT, re.MULTILINE)
    assert [name for name, _ in paths] == ["Documentation", "Changelog", "Security"]
    for _, path in paths:
        assert (ROOT / path).is_file()
        assert f"]({path})" in (ROOT / "README.md").read_text() or path == "SECURITY.md"
    for name in ("deploy/docker/Dockerfile", "deploy/man/wsaas.1"):
        assert f"/wsaas/blob/main/{dict(paths)['Documentation']}" in (ROOT / name).read_text()


def test_contributing_names_the_command_of_ci():
    command = re.search(r"^\((.+)\)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert command
    assert f"```sh\n{command[1]}\n```" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_javascript_client_has_the_version_and_the_license_of_the_project():
    package = json.loads((ROOT / "clients" / "js" / "package.json").read_text())
    assert f'\nversion = "{package["version"]}"\n' in PYPROJECT
    assert f'\nlicense = "{package["license"]}"\n' in PYPROJECT
    assert (ROOT / "clients" / "js" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert f'Source = "{package["repository"]["url"].removeprefix("git+").removesuffix(".git")}"' in PYPROJECT


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md"])
def test_links_into_the_repository_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#:]+)[)#]", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), target


@pytest.fixture
def checkout(tmp_path):
    if GIT is None:
        pytest.skip("git is not installed")
    subprocess.run([GIT, "init", "--quiet", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        (".venv/bin/tox", True),
        (".tox/py311/bin/python", True),
        ("backend.py", True),
        ("journal", True),
        ("journal-wal", True),
        ("journal.damaged-1700000000", True),
        ("frames-crash-0a1b2c", True),
        ("responses-timeout-0a1b2c", True),
        ("tests/node/node_modules/ws/index.js", True),
        ("wsaas/journal.py", False),
        ("wsaas/delivery/journal.py", False),
        ("tests/autobahn/backend.py", False),
        (".github/dependabot.yml", False),
    ],
)
def test_git_ignores_what_the_documentation_tells_people_to_make(checkout, path, ignored):
    assert GIT
    done = subprocess.run([GIT, "check-ignore", "--quiet", path], cwd=checkout, check=False)
    assert done.returncode == (0 if ignored else 1)
