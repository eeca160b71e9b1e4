"""How fast one core of the device is: `sysbench cpu`, run rarely, niced, and only when the device has nothing to do.

This module owns the command and its result on disk. It never runs beside a job.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from msgspec import DecodeError, ValidationError, convert, json

from edgewise_agent.clock import Clock
from edgewise_agent.files import write_durably
from edgewise_agent.settings import Settings
from edgewise_agent.wire import Benchmark

FIRST_PATIENCE_SECONDS: Final = 600.0
"""How long the very first run waits for the CPU to be idle. Without any result a device takes no work at all."""
LOOK_AGAIN_SECONDS: Final = 5.0
FAILED_AGAIN_SECONDS: Final = 300.0

_EVENTS_PER_SECOND: Final = re.compile(rb"^\s*events per second:\s*([0-9.]+)\s*$", re.MULTILINE)

_log = logging.getLogger(__name__)


class BenchmarkFailed(RuntimeError):
    """sysbench gave no figure; the message says why."""


@dataclass(frozen=True, slots=True)
class Idleness:
    """What decides whether a benchmark would be in the way. `running` is None while the operator has not said."""

    cpu_free_percent: float | None
    live_volumes: int
    running: int | None

    def reason_to_wait(self, idle_percent: float) -> str | None:
        """Why not now, or None when the device is idle."""
        if self.live_volumes:
            return f"{self.live_volumes} output volumes are in use"
        if self.running is None:
            return "the operator has not said yet whether jobs run here"
        if self.running:
            return f"{self.running} jobs run here"
        if self.cpu_free_percent is None or self.cpu_free_percent < idle_percent:
            return f"the CPU is not {idle_percent:g} % free"
        return None


def command(seconds: int) -> tuple[str, ...]:
    """The command line: always the same work on one thread, so that devices compare; niced, so that others go first."""
    sysbench = ("sysbench", "cpu", "--cpu-max-prime=10000", "--threads=1", f"--time={seconds}", "run")
    return ("nice", "-n", "19", *sysbench)


def events_per_second(output: bytes) -> float:
    """The figure in sysbench's output. Raises `BenchmarkFailed`."""
    found = _EVENTS_PER_SECOND.search(output)
    if found is None:
        raise BenchmarkFailed(f"sysbench's output has no line 'events per second': {output[-200:]!r}")
    return float(found[1])


class Benchmarker:
    """Runs the benchmark when it is due and the device is idle, and keeps the last result over restarts."""

    def __init__(self, settings: Settings, clock: Clock, idleness: Callable[[], Idleness]) -> None:
        self._settings = settings
        self._clock = clock
        self._idleness = idleness
        self._path = settings.plugin_dir / "benchmark.json"
        self._started_at = time.monotonic()
        self.result: Benchmark | None = None
        """The last result; None before the first."""

    def load(self) -> None:
        """Read the result of an earlier run of the agent, if there is one. Raises `OSError`."""
        try:
            self.result = json.decode(self._path.read_bytes(), type=Benchmark)
        except FileNotFoundError:
            return
        except (DecodeError, UnicodeDecodeError) as error:
            _log.warning("the kept benchmark %s can't be read and is made anew: %s", self._path, error)

    async def run(self) -> None:
        """Measure whenever due, until cancelled."""
        due_at = time.monotonic() + self._first_wait()
        while True:
            await asyncio.sleep(max(due_at - time.monotonic(), LOOK_AGAIN_SECONDS))
            if await asyncio.to_thread(self._reason_to_wait) is not None:
                continue
            try:
                figure = await self.measure(command(self._settings.benchmark_seconds))
                if (await asyncio.to_thread(self._idleness)).live_volumes:
                    _log.info("a job came during the benchmark: its figure does not count")
                    continue
                await asyncio.to_thread(self._keep, figure)
            except (BenchmarkFailed, OSError) as error:
                _log.warning("benchmark failed, next try in %.0f s: %s", FAILED_AGAIN_SECONDS, error)
                due_at = time.monotonic() + FAILED_AGAIN_SECONDS
            else:
                due_at = time.monotonic() + self._settings.benchmark_interval_seconds

    async def measure(self, arguments: Sequence[str]) -> float:
        """Run the command and return events per second; its process ends with this call, however that ends.

        Raises `BenchmarkFailed` and, when there is no such command, `OSError`.
        """
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(10 * self._settings.benchmark_seconds + 30):
                output, _ = await process.communicate()
        except TimeoutError:
            raise BenchmarkFailed(f"{' '.join(arguments)} did not end in time and was stopped") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            raise BenchmarkFailed(f"{' '.join(arguments)} ended with {process.returncode}: {output[-200:]!r}")
        return events_per_second(output)

    def _first_wait(self) -> float:
        if self.result is None:
            return 0.0
        age = (self._clock.now() - self.result.measured_at).total_seconds()
        # A result from the future was measured under another clock: keep it for one interval from now on.
        return self._settings.benchmark_interval_seconds - max(0.0, age)

    def _reason_to_wait(self) -> str | None:
        waited = time.monotonic() - self._started_at
        impatient = self.result is None and waited >= FIRST_PATIENCE_SECONDS
        return self._idleness().reason_to_wait(0.0 if impatient else self._settings.benchmark_idle_percent)

    def _keep(self, figure: float) -> None:
        try:
            result = convert({"eventsPerSecond": figure, "measuredAt": self._clock.now()}, Benchmark)
        except ValidationError as error:
            raise BenchmarkFailed(f"sysbench's figure {figure} is not believable: {error}") from error
        write_durably(self._path, json.encode(result))
        self.result = result
        _log.info("benchmark: %.0f events per second", figure)
