"""Small files that must survive a power cut: written beside, forced to disk, renamed into place.

This module owns how the agent makes a change durable. It never decides what is written.
"""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content` at once: after a power cut it holds the old or the new, never a part.

    Returns when the content and its name are on the disk. Raises `OSError`.
    """
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file, if it is there, and return when its absence is on the disk. Raises `OSError`."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path | str) -> None:
    """Force the names in `folder` to disk. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path | str) -> None:
    """Force the content of `path`, which must exist, to disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
