"""Which files of a spooled folder go home, and what their content is: the plan of an upload.

This module owns the rules a file must keep (regular, one link, a name that is safe anywhere, within the app's limits)
and the hashing. It reads the folder without following any link, changes nothing in it and sends nothing.
"""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgewise_agent.include import included
from edgewise_agent.logs import MOST_LOGS
from edgewise_agent.tree import Found, open_below, walk
from edgewise_agent.wire import OutputVolume, PlannedFile, RefusedFile

LONGEST_NAME_BYTES: Final = 1024
LONGEST_PART_BYTES: Final = 255
MOST_REFUSED_NAMED: Final = 100
BLOCK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Collected:
    """What a folder holds: the files to send by name, the refused (the first 100 named), and the count left out."""

    files: tuple[PlannedFile, ...]
    refused: tuple[RefusedFile, ...]
    refused_count: int
    skipped: int


def collect(root: Path, asked: OutputVolume, check: Callable[[], None] = lambda: None) -> Collected:
    """Judge and hash every file below `root`, forcing each to disk first, so that the plan survives a power cut.

    Of more than `max_files` the first by name are kept, of more than `size_limit_bytes` those that still fit.
    A file that changes while it is read is refused. `check` is called for each block read, and may end the work by
    raising. Raises `OSError` when `root` can't be read.
    """
    refusals = Refusals()
    sizes, skipped = _judge(root, asked, refusals)
    files = []
    room = asked.size_limit_bytes
    for name in sorted(sizes):
        if sizes[name] > room:
            refusals.add(name, "TooLarge", f"{sizes[name]} bytes, {room} of the {asked.size_limit_bytes} allowed left")
            continue
        digest = digest_of(root, name, sizes[name], refusals, check)
        if digest is not None:
            files.append(PlannedFile(name=name, bytes_=sizes[name], sha256=digest))
            room -= sizes[name]
    return Collected(tuple(files), tuple(refusals.named), refusals.count, skipped)


def collect_logs(root: Path, check: Callable[[], None] = lambda: None) -> tuple[PlannedFile, ...]:
    """Hash the kept logs below `root`, which may not be there; what can't be read is left out. Raises `OSError`."""
    refusals = Refusals()
    try:
        sizes = {found.name: found.status.st_size for found in walk(root) if included(found.name, ("*/[0-9]*.log",))}
    except FileNotFoundError:
        return ()
    digests = ((name, digest_of(root, name, sizes[name], refusals, check)) for name in sorted(sizes)[:MOST_LOGS])
    return tuple(PlannedFile(name=name, bytes_=sizes[name], sha256=digest) for name, digest in digests if digest)


class Refusals:
    """The files that stay behind: all are counted, the first 100 named."""

    def __init__(self) -> None:
        self.named: list[RefusedFile] = []
        self.count = 0

    def add(self, name: str, reason: str, message: str) -> None:
        self.count += 1
        if len(self.named) < MOST_REFUSED_NAMED:
            self.named.append(RefusedFile(name=presentable(name), reason=reason, message=message))


def _judge(root: Path, asked: OutputVolume, refusals: Refusals) -> tuple[dict[str, int], int]:
    """The size of each acceptable file by name, at most `max_files` of them, and how many the patterns leave out."""
    sizes: dict[str, int] = {}
    skipped = 0
    for found in walk(root):
        if found.is_folder:
            refusals.add(found.name, "BadName", "a folder that is too deep or can't be opened")
        elif not included(found.name, asked.include):
            skipped += 1
        elif refusal := refusal_of(found):
            refusals.add(found.name, *refusal)
        else:
            sizes[found.name] = found.status.st_size
            if len(sizes) > 2 * asked.max_files:
                _cut(sizes, asked.max_files, refusals)
    _cut(sizes, asked.max_files, refusals)
    return sizes, skipped


def _cut(sizes: dict[str, int], most: int, refusals: Refusals) -> None:
    """Keep the first `most` by name. Cutting now and then, not at each file, keeps both time and memory bounded."""
    for name in sorted(sizes)[most:]:
        del sizes[name]
        refusals.add(name, "TooMany", f"the app's outputs may have {most} files")


def refusal_of(found: Found) -> tuple[str, str] | None:
    """Why a file can't be sent, as a reason and a message."""
    if problem := name_problem(found.name):
        return "BadName", problem
    if found.is_symlink:
        return "Symlink", "a symbolic link; write the file itself"
    if not found.is_regular:
        return "NotAFile", "not a regular file"
    if found.status.st_nlink != 1:
        return "HardLink", f"has {found.status.st_nlink} names; copy the file instead"
    return None


def name_problem(name: str) -> str | None:
    """What is wrong with a relative path as a result's name, or None when it is safe on any system that stores it."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "not valid UTF-8"
    parts = name.split("/")
    if len(encoded) > LONGEST_NAME_BYTES:
        return f"{len(encoded)} bytes long, {LONGEST_NAME_BYTES} are allowed"
    if any(part in {"", ".", ".."} for part in parts):
        return "has an empty part, '.' or '..'"
    if any(len(part.encode()) > LONGEST_PART_BYTES for part in parts):
        return f"a part is longer than {LONGEST_PART_BYTES} bytes"
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "has control characters"
    return None


def presentable(name: str) -> str:
    """A name that may be anything, made fit to be shown: valid text without control characters, 1,024 at most."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in text)[:1024]


def digest_of(root: Path, name: str, size: int, refusals: Refusals, check: Callable[[], None]) -> str | None:
    """The SHA-256 of a file that is still what `_judge` saw, or None after refusing it."""
    try:
        descriptor = open_below(root, name)
    except OSError as error:
        refusals.add(name, "Unreadable", os.strerror(error.errno or 0))
        return None
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            os.fsync(descriptor)
            before = os.fstat(descriptor)
            sha256 = hashlib.sha256()
            read = 0
            while read <= size and (block := file.read(BLOCK_BYTES)):
                check()
                sha256.update(block)
                read += len(block)
            after = os.fstat(descriptor)
        except OSError as error:
            refusals.add(name, "Unreadable", os.strerror(error.errno or 0))
            return None
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    if not same or read != size or before.st_size != size or not stat.S_ISREG(before.st_mode) or before.st_nlink != 1:
        refusals.add(name, "Changed", "changed while it was read")
        return None
    return sha256.hexdigest()
