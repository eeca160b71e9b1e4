"""Measures how busy a device is, without end, as CSV files of a minute each.

While a file is written its name ends in .part, which the app's outputs do not include; closing it is renaming it to
.csv, and from then on it goes home. The device keeps the last hour of closed files, so that its folder stays small.
"""

import argparse
import csv
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

COLUMNS = ("time", "node", "busy_percent", "memory_percent")


class Meter:
    """The kernel's own figures of the whole machine."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._before = self._ticks()

    def _ticks(self) -> tuple[int, int]:
        """Busy ticks and all ticks of all processors since the machine's start."""
        first = (self._proc / "stat").read_text().splitlines()[0]
        ticks = [int(word) for word in first.split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    def busy_percent(self) -> float:
        """How busy the processors were since the last call."""
        (busy_before, all_before), self._before = self._before, self._ticks()
        busy, all_ = self._before
        return 100 * (busy - busy_before) / max(1, all_ - all_before)

    def memory_percent(self) -> float:
        """How much of the memory can't be had."""
        lines = (line.split() for line in (self._proc / "meminfo").read_text().splitlines())
        kibibytes = {words[0].rstrip(":"): int(words[1]) for words in lines}
        return 100 - 100 * kibibytes["MemAvailable"] / kibibytes["MemTotal"]


def rows(meter: Meter, node: str, every_seconds: float, until: float, stop: Event) -> Iterator[tuple[str, ...]]:
    """A row each `every_seconds`, until that monotonic time or until `stop` is set."""
    while not stop.wait(max(0.0, min(every_seconds, until - time.monotonic()))) and time.monotonic() < until:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        yield now, node, f"{meter.busy_percent():.1f}", f"{meter.memory_percent():.1f}"


def write(folder: Path, found: Iterator[tuple[str, ...]]) -> None:
    """A file of those rows, named by the time of its begin. Nobody sees it under that name before it is whole."""
    begin = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    part = folder / f"load-{begin}.part"
    with part.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        table.writerows(found)
        file.flush()
        os.fsync(file.fileno())
    part.rename(part.with_suffix(".csv"))


def remove_all_but(folder: Path, newest: int) -> None:
    """Keep the newest files only. By then the others have long been home, unless the gateway was away for so long."""
    for old in sorted(folder.glob("load-*.csv"))[:-newest]:
        old.unlink()


def main() -> None:
    """Measure until the app is told to end; what is begun by then is closed, too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every-seconds", type=float, default=5)
    parser.add_argument("--file-seconds", type=float, default=60)
    parser.add_argument("--keep-files", type=int, default=60)
    parser.add_argument("--proc", type=Path, default=Path("/proc"))
    asked = parser.parse_args()
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    folder, meter = Path(os.environ["EDGEWISE_OUTPUTS"]), Meter(asked.proc)
    while not stop.is_set():
        until = time.monotonic() + asked.file_seconds
        write(folder, rows(meter, os.environ["EDGEWISE_NODE"], asked.every_seconds, until, stop))
        remove_all_but(folder, asked.keep_files)


if __name__ == "__main__":
    main()
