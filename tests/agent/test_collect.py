"""Which files go home, and why the others do not."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
from edgewise_agent.collect import Collected, collect, name_problem, presentable
from edgewise_agent.tree import open_below
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.kubelet import outputs
from tests.agent.test_tree import deep


def reasons(collected: Collected) -> dict[str, str]:
    return {file.name: file.reason for file in collected.refused}


def names(collected: Collected) -> list[str]:
    return [file.name for file in collected.files]


def test_ordinary_outputs(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / "faces.csv").write_text("photo,x\n1,2\n")
    (tmp_path / "day/ä b.csv").write_text("")
    (tmp_path / "notes.txt").write_text("not asked for")
    collected = collect(tmp_path, outputs())
    assert names(collected) == ["day/ä b.csv", "faces.csv"]
    assert collected.files[1].bytes_ == 12
    assert collected.files[1].sha256 == hashlib.sha256(b"photo,x\n1,2\n").hexdigest()
    assert (collected.refused, collected.refused_count, collected.skipped) == ((), 0, 1)


def test_nothing_written(tmp_path: Path) -> None:
    assert collect(tmp_path, outputs()) == Collected((), (), 0, 0)


def test_hostile_outputs(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.csv").write_text("secret")
    (root / "good.csv").write_text("good")
    (root / "link.csv").symlink_to(outside / "secret.csv")
    (root / "dangling.csv").symlink_to("nowhere")
    (root / "folder").symlink_to(outside)
    os.link(outside / "secret.csv", root / "hard.csv")
    os.mkfifo(root / "fifo.csv")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "socket.csv"))
    os.mknod(root / "null.csv", 0o666 | 0o020000, os.makedev(1, 3))
    (root / "new\nline.csv").write_text("x")
    Path(os.fsdecode(bytes(root) + b"/bad\xff.csv")).write_text("x")
    with (root / "sparse.csv").open("wb") as sparse:
        sparse.truncate(2**40)
    deep(root, 100)
    collected = collect(root, outputs())
    assert names(collected) == ["good.csv"]
    assert reasons(collected) == {
        "link.csv": "Symlink",
        "dangling.csv": "Symlink",
        "hard.csv": "HardLink",
        "fifo.csv": "NotAFile",
        "socket.csv": "NotAFile",
        "null.csv": "NotAFile",
        "new\ufffdline.csv": "BadName",
        "bad\ufffd.csv": "BadName",
        "sparse.csv": "TooLarge",
        "/".join(["nested"] * 65): "BadName",
    }
    assert collected.refused_count == 10
    assert collected.skipped == 1, "the linked folder, which no pattern means"


def test_too_many_keeps_the_first_by_name(tmp_path: Path) -> None:
    for number in range(150):
        (tmp_path / f"{number:03}.csv").write_text("x")
    collected = collect(tmp_path, outputs(max_files=5))
    assert names(collected) == [f"{number:03}.csv" for number in range(5)]
    assert collected.refused_count == 145
    assert len(collected.refused) == 100
    assert {file.reason for file in collected.refused} == {"TooMany"}


def test_too_large_keeps_what_still_fits(tmp_path: Path) -> None:
    for name, size in {"a.csv": 60, "b.csv": 50, "c.csv": 40, "d.csv": 1}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    collected = collect(tmp_path, outputs(size_limit_bytes=100))
    assert names(collected) == ["a.csv", "c.csv"]
    assert reasons(collected) == {"b.csv": "TooLarge", "d.csv": "TooLarge"}


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grows.csv").write_text("one\n")
    (tmp_path / "stays.csv").write_text("one\n")
    (tmp_path / "swapped.csv").write_text("one\n")
    really_open = open_below

    def open_and_change(root: Path, name: str) -> int:
        if name == "swapped.csv":
            (root / name).unlink()
            (root / name).symlink_to("/etc/passwd")
        descriptor = really_open(root, name)
        if name == "grows.csv":
            with (root / name).open("a") as file:
                file.write("two\n")
        return descriptor

    monkeypatch.setattr("edgewise_agent.collect.open_below", open_and_change)
    collected = collect(tmp_path, outputs())
    assert names(collected) == ["stays.csv"]
    assert reasons(collected) == {"grows.csv": "Changed", "swapped.csv": "Unreadable"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.csv", None),
        ("ordner/ü ß.csv", None),
        ("x" * 255, None),
        ("x" * 256, "a part is longer than 255 bytes"),
        ("ü" * 128, "a part is longer than 255 bytes"),
        ("/".join(["x" * 200] * 6), "1205 bytes long, 1024 are allowed"),
        ("tab\there", "has control characters"),
        ("del\x7fete", "has control characters"),
        ("../up", "has an empty part, '.' or '..'"),
        ("./here", "has an empty part, '.' or '..'"),
        ("a//b", "has an empty part, '.' or '..'"),
        ("/absolute", "has an empty part, '.' or '..'"),
        ("\udcff", "not valid UTF-8"),
    ],
)
def test_names(name: str, problem: str | None) -> None:
    assert name_problem(name) == problem


@given(st.binary(min_size=1, max_size=600))
def test_any_name_can_be_shown(raw: bytes) -> None:
    shown = presentable(os.fsdecode(raw))
    assert len(shown) <= 1024
    assert name_problem(shown.replace("/", "x")[:60] or "x") in {None, "has an empty part, '.' or '..'"}
