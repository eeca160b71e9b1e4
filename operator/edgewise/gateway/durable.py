"""Writing to disk so that it survives a power cut. Owns fsync and rename; knows nothing of what it writes."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class VolumeFull(OSError):
    """The results volume has no room left. Nothing half-written counts; the same call may work later."""


@contextmanager
def noticing_full_volume() -> Iterator[None]:
    """Turns the system's 'no space left' into `VolumeFull`; other errors pass through."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise VolumeFull(error.errno, "the results volume is full") from error
        raise


def sync_folder(folder: Path) -> None:
    """Returns when the names in `folder` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes `folder` and its missing parents, each of them on the disk when this returns."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        with noticing_full_volume():
            each.mkdir(exist_ok=True)
            sync_folder(each.parent)


def replace_file(path: Path, content: bytes, scratch: Path) -> None:
    """Makes `path` hold `content`, whole and on the disk when this returns, or leaves it as it was.

    `scratch` is an existing folder of the same file system; what a crash leaves there may be removed at the next start.
    """
    temporary = scratch / uuid4().hex
    try:
        with noticing_full_volume(), temporary.open("wb", buffering=0) as file:
            write_all(file.fileno(), content)
            os.fsync(file.fileno())
            temporary.rename(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def move_file(source: Path, target: Path) -> None:
    """Renames a file that is already on the disk, within one file system; on the disk when this returns."""
    with noticing_full_volume():
        source.rename(target)
        sync_folder(target.parent)


def write_all(descriptor: int, content: bytes | bytearray | memoryview) -> None:
    """Writes all of `content` at the descriptor's position, however often the system writes only a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
