"""Walking, opening and removing files in a folder that an app wrote and that may be hostile.

This module owns how to touch such a folder safely: every step is relative to an open folder and follows no link, memory
and open files are bounded whatever the app made. It never judges what a file is worth.
"""

import os
import secrets
import stat
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

DEEPEST: Final = 64
"""Folders below the root that are entered; each costs the walk an open file."""

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Found:
    """Something below the root that is not an entered folder. `name` is relative to the root, with `/` between parts.

    `folder` is the open folder that holds it, good until the walk goes on; `status` is of the thing itself, never of
    what a link points to. A folder shows up only when it is too deep, or can't be opened, to be entered.
    """

    name: str
    folder: int
    status: os.stat_result

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> int:
        """Open the file for reading and return its descriptor.

        Raises `OSError`, also when the name is now a link; what was opened may be another file than `status` tells of.
        """
        return os.open(self.name.rpartition("/")[2], _FILE_FLAGS, dir_fd=self.folder)


def walk(root: Path) -> Generator[Found, None, None]:
    """Everything below `root` that is no folder, in no particular order.

    What vanishes meanwhile is left out. Raises `OSError` when `root` itself can't be opened.
    """
    levels = [_Level("", os.open(root, _FOLDER_FLAGS))]
    try:
        while levels:
            level = levels[-1]
            entry = next(level.entries, None)
            if entry is None:
                levels.pop().close()
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            name = f"{level.prefix}{entry.name}"
            if stat.S_ISDIR(status.st_mode) and len(levels) <= DEEPEST:
                try:
                    levels.append(_Level(f"{name}/", os.open(entry.name, _FOLDER_FLAGS, dir_fd=level.folder)))
                except FileNotFoundError:
                    continue
                except OSError:
                    yield Found(name, level.folder, status)
                continue
            yield Found(name, level.folder, status)
    finally:
        for level in reversed(levels):
            level.close()


class _Level:
    """One open folder of the walk, and how far it has been read."""

    def __init__(self, prefix: str, folder: int) -> None:
        self.prefix = prefix
        self.folder = folder
        try:
            self.entries = os.scandir(folder)
        except OSError:
            os.close(folder)
            raise

    def close(self) -> None:
        self.entries.close()
        os.close(self.folder)


def open_below(root: Path, name: str) -> int:
    """Open the file that `walk` called `name` for reading, without following a link anywhere on the way.

    Returns the descriptor. Raises `OSError`.
    """
    *folders, last = name.split("/")
    folder = os.open(root, _FOLDER_FLAGS)
    try:
        for part in folders:
            inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(last, _FILE_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)


def size_below(root: Path) -> int:
    """Bytes that the regular files below `root` say they have; 0 when there is no such folder. Raises `OSError`."""
    try:
        return sum(found.status.st_size for found in walk(root) if found.is_regular)
    except FileNotFoundError:
        return 0


def remove(root: Path) -> None:
    """Remove `root` and all below it, if it is there, however deep it goes; links are removed, never followed.

    Folders are moved up to `root` before they are emptied, so depth costs neither stack nor open files. A removal that
    was interrupted is finished by the next call. Raises `OSError`.
    """
    try:
        top = os.open(root, _FOLDER_FLAGS)
    except FileNotFoundError:
        return
    new_names = (f".{secrets.token_hex(8)}.{number}" for number in count())
    try:
        while _empty_once(top, top, new_names):
            pass
    finally:
        os.close(top)
    root.rmdir()


def _empty_once(folder: int, top: int, new_names: Iterator[str]) -> bool:
    """Empty `folder`: unlink its files, move its folders to `top`, or where they are there already, empty those.

    Returns whether there was anything: names may escape the reading of a folder that changes.
    """
    found = False
    with os.scandir(folder) as entries:
        for entry in entries:
            found = True
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=folder)
            elif folder != top:
                os.rename(entry.name, next(new_names), src_dir_fd=folder, dst_dir_fd=top)
            else:
                inner = os.open(entry.name, _FOLDER_FLAGS, dir_fd=top)
                try:
                    while _empty_once(inner, top, new_names):
                        pass
                finally:
                    os.close(inner)
                os.rmdir(entry.name, dir_fd=top)
    return found
