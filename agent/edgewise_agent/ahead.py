"""Which files of a running app are finished, so that they may go home before its pod ends (`collect: OnClose`).

This module owns the rule, what it found so far of each volume, and the plans made of it; all in memory, since after a
restart the gateway still has the bytes. It sends nothing, and the plan of the whole that follows at the end replaces
whatever went ahead. docs/decisions/on-close.md says why the rule is what it is.
"""

import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path
from typing import Final

from edgewise_agent.collect import Refusals, digest_of, refusal_of
from edgewise_agent.include import included
from edgewise_agent.journal import Entry
from edgewise_agent.tree import walk
from edgewise_agent.wire import PlannedFile, UploadPlan

ON_CLOSE: Final = "OnClose"
QUIET_SECONDS: Final = 30.0
"""A file that nobody has changed for so long is taken for finished; twice as long each time that this was wrong."""
MOST_AHEAD: Final = 1000
"""Files of one volume that go ahead, of those that are in its folder; the others come later, or at the end. Each plan
names all of them again."""


def wants_ahead(entry: Entry) -> bool:
    """Whether the app wants its files home as it finishes them."""
    return entry.asked.collect == ON_CLOSE


@dataclass(frozen=True, slots=True)
class _Version:
    """A file's content by what changes with it; an app can set a file's mtime back, but not its ctime."""

    bytes_: int
    ctime_ns: int


@dataclass(slots=True)
class _Seen:
    finished: dict[str, tuple[_Version, PlannedFile]] = field(default_factory=dict)
    patience: dict[str, float] = field(default_factory=dict)
    """how long files must be quiet, in seconds, that were changed after they had been taken for finished"""
    home: UploadPlan | None = None
    """the last plan whose files the gateway had all"""


class Ahead:
    """The finished files of live volumes. One volume is looked at by one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def forget_all_but(self, volume_ids: Set[str]) -> None:
        """Drop what is known of other volumes."""
        for volume_id in self._seen.keys() - volume_ids:
            del self._seen[volume_id]

    def plan(self, entry: Entry, check: Callable[[], None]) -> UploadPlan | None:
        """Everything that is finished in the volume's folder; None when there is nothing that is not home.

        The app's limits hold. `check` is called for each block read, and may end the work by raising; what was read
        until then is remembered. Raises `OSError` when the folder can't be read.
        """
        root, seen = Path(entry.target), self._seen.setdefault(entry.volume_id, _Seen())
        self._drop_changed(root, seen)
        room = min(entry.asked.max_files, MOST_AHEAD) - len(seen.finished)
        bytes_left = entry.asked.size_limit_bytes - sum(file.bytes_ for _, file in seen.finished.values())
        for name, version in nsmallest(
            max(0, room), _quiet(root, entry, seen), key=lambda one: (one[1].ctime_ns, one[0])
        ):
            if version.bytes_ > bytes_left:
                continue
            digest = digest_of(root, name, version.bytes_, Refusals(), check)
            if digest is not None:
                file = PlannedFile(name=name, bytes_=version.bytes_, sha256=digest)
                seen.finished[name] = version, file
                bytes_left -= version.bytes_
        if not seen.finished:
            return None
        plan = UploadPlan(
            namespace=entry.namespace,
            job=entry.asked.job,
            attempt=entry.asked.attempt,
            pod_name=entry.pod_name,
            files=tuple(file for _, (_, file) in sorted(seen.finished.items())),
            ahead=True,
        )
        return None if plan == seen.home else plan

    def arrived(self, entry: Entry, plan: UploadPlan) -> bool:
        """Note that the gateway has all files of `plan`. Whether one was not in the plan that arrived before it."""
        if (seen := self._seen.get(entry.volume_id)) is None:
            return False
        before, seen.home = seen.home, plan
        return before is not None and not set(plan.files) <= set(before.files)

    @staticmethod
    def _drop_changed(root: Path, seen: _Seen) -> None:
        """Take out what is not as it was, in one walk; what the app removed may come again under that name."""
        gone = seen.finished.keys() | seen.patience.keys()
        for found in walk(root):
            gone.discard(found.name)
            known = seen.finished.get(found.name)
            if known is None:
                continue
            if known[0] != _Version(found.status.st_size, found.status.st_ctime_ns) or refusal_of(found):
                del seen.finished[found.name]
                seen.patience[found.name] = 2 * seen.patience.get(found.name, QUIET_SECONDS)
        for name in gone:
            seen.finished.pop(name, None)
            seen.patience.pop(name, None)


def _quiet(root: Path, entry: Entry, seen: _Seen) -> Iterator[tuple[str, _Version]]:
    """The files that the app wants home, that may be sent, and that have been quiet, but are not known yet."""
    now_ns = time.time_ns()
    for found in walk(root):
        if found.is_folder or found.name in seen.finished:
            continue
        patience_ns = int(seen.patience.get(found.name, QUIET_SECONDS) * 1e9)
        if found.status.st_ctime_ns > now_ns - patience_ns:
            continue
        if refusal_of(found) or not included(found.name, entry.asked.include):
            continue
        yield found.name, _Version(found.status.st_size, found.status.st_ctime_ns)
