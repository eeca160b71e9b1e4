"""Which plans are taken: a table of names and of contents, each with what is wrong."""

import pytest
from edgewise.gateway.plans import name_fault, plan_fault
from edgewise_agent.wire import PlannedFile, UploadPlan
from hypothesis import given
from hypothesis import strategies as st

from tests.gateway.surroundings import plan_of, sha256


@pytest.mark.parametrize("name", ["a", "faces.csv", "deep/er/faces.csv", "größe 1.csv", "...", "a\\b", "x" * 255])
def test_names_that_are_taken(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "not a relative path"),
        ("/etc/passwd", "not a relative path"),
        (".", "empty part, '.' or '..'"),
        ("..", "empty part, '.' or '..'"),
        ("a/../b", "empty part, '.' or '..'"),
        ("a//b", "empty part, '.' or '..'"),
        ("a/", "empty part, '.' or '..'"),
        ("./a", "empty part, '.' or '..'"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x7fb", "control character"),
        ("a\x85b", "control character"),
        ("x" * 256, "part of more than 255 bytes"),
        ("ö" * 128, "part of more than 255 bytes"),
        ("/".join(["x" * 200] * 6), "longer than 1024 bytes"),
        ("half\ud800", "not valid UTF-8"),
    ],
)
def test_names_that_are_refused(name: str, fault: str) -> None:
    assert fault in (name_fault(name) or "")


@given(st.text(max_size=40))
def test_a_name_that_is_taken_stays_inside_its_folder(name: str) -> None:
    if name_fault(name) is None:
        assert not name.startswith("/")
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\0" not in name


def planned(name: str, size: int, content: bytes) -> PlannedFile:
    return PlannedFile(name=name, bytes_=size, sha256=sha256(content))


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ((planned("a", 1, b"x"), planned("a", 1, b"y")), "'a' is in the plan twice"),
        ((planned("a", 1, b"x"), planned("a/b", 1, b"y")), "'a' is also the folder of 'a/b'"),
        ((planned("a/b/c", 1, b"x"), planned("a", 1, b"y")), "'a' is also the folder of 'a/b/c'"),
        ((planned("a", 1, b"x"), planned("b", 2, b"x")), "another file with the same SHA-256 has 1"),
        ((planned("a", 0, b"x"),), "has 0 bytes, which its SHA-256"),
        ((planned("a", 1, b""),), "has 1 bytes, which its SHA-256"),
        ((planned("a/../b", 1, b"x"),), "'a/../b' has an empty part"),
    ],
)
def test_plans_that_are_refused(files: tuple[PlannedFile, ...], fault: str) -> None:
    plan = UploadPlan(namespace="demo", job="faces", attempt=1, pod_name="faces-1", files=files)
    assert fault in (plan_fault(plan) or "")


def test_a_plan_that_is_taken() -> None:
    assert plan_fault(plan_of({"a.csv": b"x", "b/a.csv": b"x", "b/c.csv": b"", "c": b""})) is None
    assert plan_fault(plan_of({})) is None
