"""An image's key changes with what the image is made from, and with nothing else."""

from pathlib import Path

import pytest

from testbed.images import Image, copied

DOCKERFILE = """\
ARG BASE
FROM ${BASE} AS builder
COPY requirements/app.txt /tmp/
COPY --chown=1:1 app \\
     lib/*.py /opt/
RUN true
FROM ${BASE}
COPY --from=builder /opt /opt
"""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    for name in ("requirements/app.txt", "app/main.py", "app/__pycache__/main.pyc", "lib/a.py", "docs/page.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    return Image("app", tmp_path / "Dockerfile", tmp_path)


def test_copied_paths_are_those_from_the_context() -> None:
    assert list(copied(DOCKERFILE)) == ["requirements/app.txt", "app", "lib/*.py"]


@pytest.mark.parametrize("name", ["requirements/app.txt", "app/main.py", "app/new.py", "lib/a.py", "Dockerfile"])
def test_key_changes_with_what_is_copied(image: Image, name: str) -> None:
    before = image.key()
    (image.context / name).write_text(DOCKERFILE + "# changed")

    assert image.key() != before


@pytest.mark.parametrize("name", ["docs/page.md", "app/__pycache__/main.pyc", "lib/a.txt"])
def test_key_stays_with_the_rest(image: Image, name: str) -> None:
    before = image.key()
    (image.context / name).write_text("changed")

    assert image.key() == before
