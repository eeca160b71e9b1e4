"""What an attempt's containers said: the end of their logs, copied from kubelet's folder before kubelet removes it.

This module owns the layout of `{pod logs}/{namespace}_{pod}_{uid}/{container}/{start}.log` with its rotated parts, and
how much of a log is kept. It follows no link and reads nothing outside of that pod's folder; it never decides when.
"""

import errno
import logging
import os
import re
import stat
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from edgewise_agent.files import sync_folder
from edgewise_agent.tree import open_below, walk

MOST_LOGS: Final = 16
"""Logs that one upload carries."""
BLOCK_BYTES: Final = 64 * 1024
_PARTS_HELD: Final = 2

_PART: Final = re.compile(
    r"(?P<container>[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)/(?P<start>0|[1-9][0-9]{0,8})\.log"
    r"(\.(?P<rotated>[-0-9]{1,32})(?P<packed>\.gz)?)?"
)

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Log:
    """What one start of a container has said, in parts as `(rotated at, name, bytes)`."""

    parts: list[tuple[str, str, int]] = field(default_factory=list)
    packed: int = 0
    """parts that kubelet has compressed; they are older than all others and not read"""

    def newest_first(self) -> Iterator[tuple[str, int]]:
        """Name and size of each part. A rotation's time sorts as text; the part without one is still written to."""
        for _, name, size in sorted(self.parts, key=lambda part: (not part[0], part[0]), reverse=True):
            yield name, size


_Key = tuple[str, int]
"""A container, and which start of it"""
_Found = dict[_Key, _Log]
_Open = Callable[[str], AbstractContextManager[int]]
"""Gives a part of a log, open for reading, by its name"""


def log_folder(pod_logs: Path, namespace: str, pod_name: str, pod_uid: str) -> Path | None:
    """Where kubelet keeps the logs of a pod; None for names that none can have."""
    folder = f"{namespace}_{pod_name}_{pod_uid}"
    return None if "/" in folder else pod_logs / folder


def keep_logs(source: Path, target: Path, limit_bytes: int) -> int:
    """Copy the logs below a pod's folder `source` to `{container}/{start}.log` below `target`; returns how many.

    All are on the disk then. Of each container the newest `limit_bytes` are kept, in whole lines; a first line, beyond
    the limit, says what was left out. What an earlier call kept stays where nothing new is found. Only regular files
    with one name are read: where a runtime has links in their place, there is nothing to copy. Raises `OSError`.
    """
    return _keep(_find(source), partial(_opened, source), target, limit_bytes)


class OpenLogs:
    """The logs of a pod that runs, held open: they can still be read when kubelet has removed them with the pod.

    Of each start of a container the last two parts are held. Not for several threads at once.
    """

    def __init__(self, source: Path) -> None:
        """`source` is the pod's folder, which need not be there yet."""
        self._source = source
        self._held: dict[_Key, dict[int, int]] = defaultdict(dict)
        """descriptors by inode, the oldest first"""

    def look(self) -> bool:
        """Open what is new. False once kubelet has removed what was there. Raises `OSError`."""
        found = _find(self._source)
        for key, log in sorted(found.items()):
            for _, name, _ in sorted(log.parts, key=lambda part: (not part[0], part[0]))[-_PARTS_HELD:]:
                if key in self._held or len(self._held) < MOST_LOGS:
                    self._hold(self._held[key], name)
        return bool(found) or not self._held

    def _hold(self, parts: dict[int, int], name: str) -> None:
        try:
            descriptor = open_below(self._source, name)
        except FileNotFoundError:  # rotated, or removed, since it was found
            return
        status = os.fstat(descriptor)
        if status.st_ino in parts or not _is_plain(status):
            os.close(descriptor)
            return
        parts[status.st_ino] = descriptor
        while len(parts) > _PARTS_HELD:
            os.close(parts.pop(next(iter(parts))))

    def keep(self, target: Path, limit_bytes: int) -> int:
        """As `keep_logs`, with what is only held open in place of what is gone. Raises `OSError`."""
        found = _find(self._source)
        gone: _Found = {}
        names: dict[str, int] = {}
        for (container, start), parts in self._held.items():
            if (container, start) in found:
                continue
            for age, descriptor in enumerate(parts.values()):
                name = f"{container}/{start}.log/{age}"
                names[name] = descriptor
                log = gone.setdefault((container, start), _Log())
                log.parts.append((str(age), name, os.fstat(descriptor).st_size))

        def opened(name: str) -> AbstractContextManager[int]:
            return nullcontext(names[name]) if name in names else _opened(self._source, name)

        return _keep({**found, **gone}, opened, target, limit_bytes)

    def close(self) -> None:
        """Let go of everything."""
        for parts in self._held.values():
            for descriptor in parts.values():
                os.close(descriptor)
        self._held.clear()


def _keep(found: _Found, opened: _Open, target: Path, limit_bytes: int) -> int:
    room: dict[str, int] = defaultdict(lambda: limit_bytes)
    kept = 0
    # The newest start of every container comes before any older one.
    ranks = Counter[str]()
    ordered = []
    for container, start in sorted(found, key=lambda key: (key[0], -key[1])):
        ordered.append((ranks[container], container, start))
        ranks[container] += 1
    for _, container, start in sorted(ordered)[:MOST_LOGS]:
        if room[container] <= 0:
            continue
        folder = target / container
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        room[container] -= _copy_end(opened, found[container, start], folder / f"{start}.log", room[container])
        for changed in (folder, target, target.parent):
            sync_folder(changed)
        kept += 1
    return kept


def _find(source: Path) -> _Found:
    """The logs by container and start; none where the folder is not there. Raises `OSError`."""
    logs: dict[_Key, _Log] = defaultdict(_Log)
    with suppress(FileNotFoundError):
        for found in walk(source):
            match = _PART.fullmatch(found.name)
            if match is None:
                continue
            if not _is_plain(found.status):
                _log.warning("%s below %s is no regular file with one name: not kept", found.name, source)
                continue
            log = logs[match["container"], int(match["start"])]
            if match["packed"]:
                log.packed += 1
            else:
                log.parts.append((match["rotated"] or "", found.name, found.status.st_size))
    return dict(logs)


def _copy_end(opened: _Open, log: _Log, place: Path, limit_bytes: int) -> int:
    """Copy the newest bytes of a log, at most `limit_bytes`, from the begin of a line on; returns how many."""
    taken: list[tuple[str, int, int]] = []
    room = limit_bytes
    for name, size in log.newest_first():
        start = 0 if size <= room else _line_begin(opened, name, size - room, size)
        taken.append((name, start, size))
        room -= size - start
        if start:
            break
    left_out = sum(size for _, _, size in log.parts) - sum(end - start for _, start, end in taken)
    beside = place.with_name(f".{place.name}.new")
    with beside.open("wb") as copy:
        if left_out or log.packed:
            packed = f" and {log.packed} compressed files" if log.packed else ""
            copy.write(f"# {left_out} bytes{packed} of older log were left out on the device\n".encode())
        copied = sum(_copy(opened, part, copy.write) for part in reversed(taken))
        copy.flush()
        os.fsync(copy.fileno())
    beside.replace(place)
    return copied


def _line_begin(opened: _Open, name: str, start: int, end: int) -> int:
    """The first position from `start` on where a line begins; `start` itself when none does before `end`."""
    with opened(name) as file:
        at = start - 1
        while at < end and (block := os.pread(file, min(BLOCK_BYTES, end - at), at)):
            if (found := block.find(b"\n")) >= 0:
                return at + found + 1
            at += len(block)
    return start


def _copy(opened: _Open, part: tuple[str, int, int], write: Callable[[bytes], object]) -> int:
    """Write the bytes of a part from its start to its end; returns how many there were."""
    name, start, end = part
    at = start
    with opened(name) as file:
        while at < end and (block := os.pread(file, min(BLOCK_BYTES, end - at), at)):
            write(block)
            at += len(block)
    return at - start


@contextmanager
def _opened(source: Path, name: str) -> Iterator[int]:
    """A part of a log, open for reading. Raises `OSError`, also when it is no longer what was found."""
    descriptor = open_below(source, name)
    try:
        if not _is_plain(os.fstat(descriptor)):
            raise OSError(errno.EINVAL, "no regular file with one name any more", name)
        yield descriptor
    finally:
        os.close(descriptor)


def _is_plain(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
