"""The folder of a node, and the removal of old ones."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsaas.workers.runtime_folder import RuntimeFolder, parent_folder, sweep, sweep_folder


@pytest.fixture
def created(tmp_path: Path) -> Iterator[RuntimeFolder]:
    folder = RuntimeFolder()
    folder.create(tmp_path)
    yield folder
    folder.remove()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(parent: Path) -> Path:
    """Return the folder of a node whose processes were killed."""
    node = RuntimeFolder()
    node.create(parent)
    path = Path(node.path)
    # Its locks end, and nothing is removed.
    node.path = ""
    node.remove()
    for name in ("aaaa-_A0.sock", "journal.1", "journal.1-wal", "journal.12.damaged-2026-01-01T000000Z"):
        (path / name).touch()
    return path


def test_only_its_owner_can_enter_a_folder(created: RuntimeFolder) -> None:
    assert Path(created.path).stat().st_mode & 0o777 == 0o700


def test_a_folder_is_removed_once(created: RuntimeFolder, tmp_path: Path) -> None:
    created.remove()
    created.remove()
    assert names(tmp_path) == []


def test_the_folder_of_a_node_that_was_killed_is_removed_with_all_that_is_in_it(tmp_path: Path) -> None:
    killed(tmp_path)
    killed(tmp_path)
    assert not sweep(tmp_path)
    assert names(tmp_path) == []


def test_the_folder_of_a_supervisor_that_runs_stays(created: RuntimeFolder, tmp_path: Path) -> None:
    before = names(Path(created.path))
    assert not sweep(tmp_path)
    assert names(Path(created.path)) == before


def test_the_folder_of_workers_without_a_supervisor_stays_until_they_have_ended(tmp_path: Path) -> None:
    node = RuntimeFolder()
    node.create(tmp_path)
    assert node.lock is not None
    inherited = os.dup(node.lock)
    node.path = ""
    node.remove()
    killed(tmp_path)
    assert sweep(tmp_path)
    assert len(names(tmp_path)) == 1
    os.close(inherited)
    assert not sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("missing", ["supervisor", "workers"])
def test_a_folder_without_locks_is_not_ours(tmp_path: Path, missing: str) -> None:
    path = killed(tmp_path)
    (path / missing).unlink()
    before = names(path)
    assert not sweep(tmp_path)
    assert names(path) == before


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o500])
def test_a_folder_with_another_mode_is_not_ours(tmp_path: Path, mode: int) -> None:
    path = killed(tmp_path)
    before = names(path)
    path.chmod(mode)
    assert not sweep(tmp_path)
    assert names(path) == before


def test_a_folder_of_another_user_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = killed(tmp_path)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert not sweep(tmp_path)
    assert path.exists()


def test_a_folder_with_another_name_is_not_ours(tmp_path: Path) -> None:
    renamed = killed(tmp_path).rename(tmp_path / "mine")
    assert not sweep(tmp_path)
    assert "journal.1" in names(renamed)


def test_files_that_nodes_do_not_make_stay(tmp_path: Path) -> None:
    path = killed(tmp_path)
    (path / "thesis.txt").touch()
    (path / "journal.2").mkdir()
    assert not sweep(tmp_path)
    assert names(path) == ["journal.2", "thesis.txt"]
    assert not sweep(tmp_path)


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    target = killed(tmp_path).rename(tmp_path / "target")
    runtime = tmp_path / "run"
    runtime.mkdir()
    (runtime / "wsaas-link").symlink_to(target)
    kept = tmp_path / "kept"
    kept.touch()
    old = killed(runtime)
    (old / "bbbbbbbb.sock").symlink_to(kept)
    linked = killed(runtime)
    (linked / "supervisor").unlink()
    (linked / "supervisor").symlink_to(kept)
    assert not sweep(runtime)
    assert names(runtime) == sorted(["wsaas-link", linked.name])
    assert "journal.1" in names(target)
    assert kept.exists()


def test_a_parent_that_cannot_be_read_has_no_folders(tmp_path: Path) -> None:
    assert not sweep(tmp_path / "missing")
    assert not sweep_folder(tmp_path / "missing")


def test_the_parent_is_the_runtime_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert parent_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path
    assert parent_folder({"XDG_RUNTIME_DIR": str(tmp_path / "missing")}) == Path("/nowhere")
    assert parent_folder({}) == Path("/nowhere")
