"""Starts, records and ends the fleet's long-running processes on the host.

A process records itself before it becomes the program: a shell writes its own
line of /proc/PID/stat into the record, joins its control groups and then execs,
so there is no moment when a process runs and is not on record, even if the
testbed is killed half-way. The record holds the start time, and a signal goes
to a process only while the id still belongs to the one that was recorded.
"""

import os
import select
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed import paths
from testbed.errors import FleetError

_BECOME = """
cat /proc/$$/stat > "$0.new" && mv "$0.new" "$0" || exit
for group in $EDGEWISE_GROUPS; do echo $$ > "$group" || exit; done
unset EDGEWISE_GROUPS
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of ours, known by its id and its start time (clock ticks after boot)."""

    name: str
    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _running_since(self.pid) == self.start_ticks

    @property
    def stalled(self) -> bool:
        """Whether it is stopped where it is."""
        state = _state(self.pid)
        return self.alive and state is not None and state in "Tt"

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if this very process still runs."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive:
                _signal(descriptor, number)
        finally:
            os.close(descriptor)

    def end(self, seconds: float, first: signal.Signals = signal.SIGTERM) -> None:
        """Sends `first`, and SIGKILL when it still runs after `seconds`; forgets the record.

        Raises:
            FleetError: it survived SIGKILL for 20 s.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._forget()
            return
        try:
            if self.alive:
                _signal(descriptor, first)
                if not _ended(descriptor, seconds):
                    _signal(descriptor, signal.SIGKILL)
                    if not _ended(descriptor, 20):
                        raise FleetError(f"process {self.pid} ({self.name}) does not end, even by SIGKILL")
        finally:
            os.close(descriptor)
        self._forget()

    def _forget(self) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        (paths.PROCESSES / self.name).unlink(missing_ok=True)


def start(
    name: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    groups: Iterable[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Starts `command` in a session of its own, on record as `name`; does nothing if it runs.

    Args:
        name: the record's name, unique in the fleet.
        command: the program and its arguments.
        log: file that both output streams are appended to.
        groups: the cgroup.procs files of the groups that it joins.
        environment: variables added to the present ones.
    """
    if (process := find(name)) and process.alive:
        return
    paths.PROCESSES.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    os.posix_spawn(
        "/bin/sh",
        ["sh", "-c", _BECOME, str(paths.PROCESSES / name), *map(str, command)],
        {**os.environ, **(environment or {}), "EDGEWISE_GROUPS": " ".join(map(str, groups))},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def find(name: str) -> Process | None:
    """The process on record as `name`, running or not."""
    try:
        line = (paths.PROCESSES / name).read_text()
    except FileNotFoundError:
        return None
    return Process(name, int(line.split(maxsplit=1)[0]), start_ticks(line))


def running(name: str) -> bool:
    """Whether the process on record as `name` runs."""
    process = find(name)
    return process is not None and process.alive


def kill(pid: int) -> bool:
    """Kills a process that is not on record; False when it has ended already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def recorded() -> list[Process]:
    """All processes on record, running or not."""
    names = sorted(entry.name for entry in paths.PROCESSES.glob("*") if entry.suffix != ".new")
    return [process for name in names if (process := find(name))]


def only_child(pid: int) -> int | None:
    """The first child of process `pid`, or None when there is none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(children[0]) if children else None


def start_ticks(stat_line: str) -> int:
    """Start time in a line of /proc/PID/stat: field 22; the name in field 2 may hold anything."""
    return int(stat_line.rpartition(")")[2].split()[19])


def _running_since(pid: int) -> int | None:
    line = _stat(pid)
    return None if line is None or _state_in(line) in "ZX" else start_ticks(line)


def _state(pid: int) -> str | None:
    line = _stat(pid)
    return None if line is None else _state_in(line)


def _state_in(stat_line: str) -> str:
    return stat_line.rpartition(")")[2].split()[0]


def _stat(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _signal(descriptor: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, number)


def _ended(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
