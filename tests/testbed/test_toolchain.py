"""Go's version in its various spellings."""

import pytest

from testbed.toolchain import parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.26.8 linux/amd64", (1, 26, 8)), ("1.25.0", (1, 25, 0)), ("go1.26", (1, 26)), ("nothing", ())],
)
def test_version(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version
