"""Walking and removing folders that an app made, however it made them."""

import os
from pathlib import Path

import pytest
from edgewise_agent import tree
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = st.lists(st.sampled_from(["a", "b", "c d", "ü", "..."]), min_size=1, max_size=6).map(tuple)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def deep(root: Path, levels: int) -> None:
    """Folders in folders, deeper than any path may be long."""
    folder = os.open(root, os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("nested", dir_fd=folder)
        inner = os.open("nested", os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("bottom.csv", os.O_CREAT, dir_fd=folder))
    os.close(folder)


@settings(max_examples=60)
@given(paths=st.sets(PARTS, max_size=20))
def test_walk_finds_every_file_and_remove_leaves_none(
    tmp_path_factory: pytest.TempPathFactory, paths: set[tuple[str, ...]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "root"
    root.mkdir()
    written = set()
    for parts in sorted(paths):
        path = root.joinpath(*parts)
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * len(parts))
            written.add(str(path.relative_to(root)))
    assert {found.name for found in tree.walk(root)} == written
    assert tree.size_below(root) == sum(len(name.split("/")) for name in written)
    tree.remove(root)
    assert not root.exists()


def test_links_are_found_and_never_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "secret").write_text("secret")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    assert {found.name: found.is_symlink for found in tree.walk(root)} == {"folder": True, "file": True}
    for name in ("file", "folder/secret"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            tree.open_below(root, name)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        list(tree.walk(root / "folder"))
    tree.remove(root)
    assert (outside / "secret").read_text() == "secret"


def test_depth_beyond_any_path_is_bounded_and_removable(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    deep(root, 3000)
    open_before = open_files()
    found = list(tree.walk(root))
    assert [(item.is_folder, item.name.count("/")) for item in found] == [(True, tree.DEEPEST)]
    tree.remove(root)
    assert not root.exists()
    assert open_files() == open_before


def test_removal_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    for number in range(20):
        (root / f"folder{number}/inner").mkdir(parents=True)
        (root / f"folder{number}/inner/file").write_text("x")
    removed = []

    def fail_after_some(path: str, *, dir_fd: int) -> None:
        removed.append(path)
        if len(removed) == 7:
            raise OSError(5, "Input/output error")
        rmdir(path, dir_fd=dir_fd)

    rmdir = os.rmdir
    with monkeypatch.context() as patch:
        patch.setattr("edgewise_agent.tree.os.rmdir", fail_after_some)
        with pytest.raises(OSError, match="Input/output error"):
            tree.remove(root)
    assert root.exists()
    tree.remove(root)
    assert not root.exists()
    tree.remove(root)


def test_a_walk_closes_what_it_opened_when_it_is_left(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_text("x")
    before = open_files()
    walking = tree.walk(tmp_path)
    assert next(walking).name == "a/b/file"
    walking.close()
    assert open_files() == before
