"""Processes on record: started once, ended only while the id is still theirs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import paths, processes, wait_until


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of records of the test's own; ends what is left in it."""
    monkeypatch.setattr(paths, "PROCESSES", tmp_path / "processes")
    yield tmp_path
    for process in processes.recorded():
        process.end(1, signal.SIGKILL)


def started(name: str, *command: str, log: Path) -> processes.Process:
    processes.start(name, command, log=log)
    wait_until(lambda: processes.running(name), f"{name} runs", seconds=5)
    process = processes.find(name)
    assert process is not None
    return process


def test_a_second_start_finds_the_first(records: Path) -> None:
    first = started("sleeper", "sleep", "60", log=records / "log")
    second = started("sleeper", "sleep", "60", log=records / "log")

    assert first == second
    assert processes.recorded() == [first]


def test_end_ends_it_and_forgets_it(records: Path) -> None:
    process = started("sleeper", "sleep", "60", log=records / "log")

    process.end(5)

    assert not process.alive
    assert processes.find("sleeper") is None


def test_end_kills_what_ignores_the_first_signal(records: Path) -> None:
    process = started("stubborn", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done", log=records / "log")
    wait_until(lambda: "up" in (records / "log").read_text(), "the trap is set", seconds=5)

    process.end(0.2)

    assert not process.alive


def test_a_stalled_process_is_alive_and_goes_on(records: Path) -> None:
    process = started("sleeper", "sleep", "60", log=records / "log")

    process.send(signal.SIGSTOP)
    wait_until(lambda: process.stalled, "it stalls", seconds=5)
    assert process.alive
    process.send(signal.SIGCONT)

    wait_until(lambda: not process.stalled, "it goes on", seconds=5)
    assert process.alive


def test_a_stalled_process_can_be_ended(records: Path) -> None:
    process = started("sleeper", "sleep", "60", log=records / "log")
    process.send(signal.SIGSTOP)

    process.end(0.2)

    assert not process.alive
    process.send(signal.SIGCONT)  # to nobody


def test_another_process_with_a_recorded_id_is_left_alone(records: Path) -> None:
    process = started("sleeper", "sleep", "60", log=records / "log")
    stranger = processes.Process("old", process.pid, process.start_ticks - 1)

    stranger.end(1)

    assert process.alive
    assert not stranger.alive


def test_output_goes_to_the_log(records: Path) -> None:
    processes.start("talker", ["sh", "-c", "echo out; echo err >&2"], log=records / "deep" / "log")

    wait_until(lambda: (records / "deep" / "log").read_text() == "out\nerr\n", "it has spoken", seconds=5)


def test_process_joins_its_groups_before_it_runs(records: Path) -> None:
    group = records / "cgroup.procs"

    processes.start("member", ["true"], log=records / "log", groups=[group])

    wait_until(lambda: processes.find("member") and group.exists(), "it has joined", seconds=5)
    recorded = processes.find("member")
    assert recorded is not None
    assert group.read_text() == f"{recorded.pid}\n"


@pytest.mark.parametrize("name", ["sleep", "a b", "odd) name ("])
def test_start_time_is_read_past_any_name(name: str) -> None:
    fields = " ".join(str(number) for number in range(4, 53))

    assert processes.start_ticks(f"17 ({name}) S {fields}") == 22


def test_only_child_is_the_one_that_a_process_started(records: Path) -> None:
    parent = started("parent", "sh", "-c", "sleep 60 & wait", log=records / "log")
    childless = started("childless", "sleep", "60", log=records / "log")

    child = wait_until(lambda: processes.only_child(parent.pid), "the child runs", seconds=5)

    assert child is not None
    assert processes.only_child(childless.pid) is None
    os.kill(child, signal.SIGKILL)


def test_process_that_is_gone_has_no_child(records: Path) -> None:
    gone = started("gone", "sleep", "60", log=records / "log")
    gone.end(5)

    assert processes.only_child(gone.pid) is None
