"""The benchmark: what is run, when, and what is kept."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgewise_agent import benchmark as module
from edgewise_agent.benchmark import Benchmarker, BenchmarkFailed, Idleness, command, events_per_second
from edgewise_agent.clock import Clock
from edgewise_agent.settings import Settings

from tests.agent.waiting import until

OUTPUT = """sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)

Running the test with following options:
Number of threads: 1

CPU speed:
    events per second:  1187.02

General statistics:
    total time:                          3.0006s
    total number of events:              3563
"""
IDLE = Idleness(cpu_free_percent=95, live_volumes=0, running=0)


@pytest.fixture
def runs(device: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A sysbench that answers at once and notes its arguments and niceness; gives those of every run."""
    (device / "bin").mkdir()
    (device / "output").write_text(OUTPUT)
    script = device / "bin/sysbench"
    script.write_text(f'#!/bin/sh\necho "$* nice=$(nice)" >> {device}/runs\ncat {device}/output\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{device / 'bin'}:{os.environ['PATH']}")
    (device / "runs").touch()
    return lambda: (device / "runs").read_text().splitlines()


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings.plugin_dir.mkdir(parents=True)
    monkeypatch.setattr(module, "LOOK_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(module, "FAILED_AGAIN_SECONDS", 0.02)
    return settings


def test_the_figure() -> None:
    assert events_per_second(OUTPUT.encode()) == 1187.02
    with pytest.raises(BenchmarkFailed, match="no line 'events per second'"):
        events_per_second(b"FATAL: no such test")


@pytest.mark.parametrize(
    ("idleness", "reason"),
    [
        (IDLE, None),
        (replace(IDLE, cpu_free_percent=79.9), "the CPU is not 80 % free"),
        (replace(IDLE, cpu_free_percent=None), "the CPU is not 80 % free"),
        (replace(IDLE, live_volumes=2), "2 output volumes are in use"),
        (replace(IDLE, running=1), "1 jobs run here"),
        (replace(IDLE, running=None), "the operator has not said yet whether jobs run here"),
    ],
)
def test_when_to_wait(idleness: Idleness, reason: str | None) -> None:
    assert idleness.reason_to_wait(80) == reason


async def test_runs_once_when_idle_and_keeps_the_result(quick: Settings, runs: Callable[[], list[str]]) -> None:
    idleness = replace(IDLE, running=None)
    asked = 0

    def ask() -> Idleness:
        nonlocal asked
        asked += 1
        return idleness

    benchmarker = Benchmarker(quick, Clock(timedelta(hours=1)), ask)
    async with asyncio.timeout(20):
        task = asyncio.create_task(benchmarker.run())
        await until(lambda: asked > 3, "the benchmarker to look whether the device is idle")
        assert runs() == []
        idleness = IDLE
        await until(lambda: benchmarker.result, "a result")
        asked = 0
        task.cancel()
        await asyncio.wait([task])
    assert runs() == ["cpu --cpu-max-prime=10000 --threads=1 --time=3 run nice=19"]
    assert benchmarker.result is not None
    assert benchmarker.result.events_per_second == 1187.02
    assert timedelta(minutes=59) < benchmarker.result.measured_at - datetime.now(UTC) < timedelta(minutes=61)

    again = Benchmarker(quick, Clock(), lambda: IDLE)
    again.load()
    assert again.result == benchmarker.result
    assert again._first_wait() == quick.benchmark_interval_seconds, "a result from another clock's future"


async def test_a_kept_result_is_made_anew_when_it_is_old(quick: Settings, runs: Callable[[], list[str]]) -> None:
    old = datetime.now(UTC) - timedelta(days=2)
    (quick.plugin_dir / "benchmark.json").write_text(f'{{"eventsPerSecond": 5.0, "measuredAt": "{old.isoformat()}"}}')
    benchmarker = Benchmarker(quick, Clock(), lambda: IDLE)
    benchmarker.load()
    assert benchmarker.result is not None
    async with asyncio.timeout(20):
        task = asyncio.create_task(benchmarker.run())
        await until(runs, "a run")
        await until(lambda: benchmarker.result and benchmarker.result.events_per_second > 1000, "the new result")
        task.cancel()
        await asyncio.wait([task])


async def test_the_first_run_waits_only_so_long_for_an_idle_cpu(
    quick: Settings, runs: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PATIENCE_SECONDS", 0.1)
    benchmarker = Benchmarker(quick, Clock(), lambda: replace(IDLE, cpu_free_percent=10))
    async with asyncio.timeout(20):
        task = asyncio.create_task(benchmarker.run())
        await until(lambda: benchmarker.result, "a result in spite of a busy CPU")
        task.cancel()
        await asyncio.wait([task])
    assert len(runs()) == 1


async def test_failures_are_tried_again(quick: Settings, runs: Callable[[], list[str]], device: Path) -> None:
    (device / "output").write_text("FATAL: out of luck\n")
    benchmarker = Benchmarker(quick, Clock(), lambda: IDLE)
    async with asyncio.timeout(20):
        task = asyncio.create_task(benchmarker.run())
        await until(lambda: len(runs()) > 1, "a second try")
        (device / "output").write_text(OUTPUT)
        await until(lambda: benchmarker.result, "a result")
        task.cancel()
        await asyncio.wait([task])


async def test_the_process_ends_with_the_call(quick: Settings, device: Path) -> None:
    pid_file = device / "pid"
    benchmarker = Benchmarker(quick, Clock(), lambda: IDLE)
    task = asyncio.create_task(benchmarker.measure(("sh", "-c", f"echo $$ > {pid_file}; exec sleep 60")))
    await until(lambda: pid_file.exists() and pid_file.read_text().strip(), "the process to start")
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_commands_that_are_missing_or_fail(quick: Settings) -> None:
    benchmarker = Benchmarker(quick, Clock(), lambda: IDLE)
    with pytest.raises(OSError, match="No such file"):
        await benchmarker.measure(("no-such-sysbench",))
    with pytest.raises(BenchmarkFailed, match="ended with 3"):
        await benchmarker.measure(("sh", "-c", "exit 3"))


def test_the_command_is_fixed() -> None:
    assert command(3) == (
        *("nice", "-n", "19"),
        *("sysbench", "cpu", "--cpu-max-prime=10000", "--threads=1", "--time=3", "run"),
    )
