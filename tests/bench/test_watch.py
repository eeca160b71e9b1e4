"""What the watch of pods makes of the lines it reads."""

from typing import Any

import pytest
from msgspec import json

from bench.errors import BenchError
from bench.watch import PodWatch


def line(event: str, job: str | None, node: str = "", phase: str = "Pending") -> bytes:
    owners = [] if job is None else [{"kind": "Job", "name": job, "uid": "u"}]
    pod: dict[str, Any] = {
        "metadata": {"name": f"{job}-x", "ownerReferences": owners},
        "spec": {"nodeName": node},
        "status": {"phase": phase},
    }
    return json.encode({"type": event, "object": pod})


def test_first_binding_and_first_end_of_each_job_count() -> None:
    watch = PodWatch()

    watch.take(line("ADDED", "a"), 1.0)
    watch.take(line("MODIFIED", "a", "edge-1"), 2.0)
    watch.take(line("MODIFIED", "a", "edge-1", "Running"), 3.0)
    watch.take(line("MODIFIED", "a", "edge-1", "Succeeded"), 4.0)
    watch.take(line("MODIFIED", "a", "edge-1", "Succeeded"), 5.0)
    watch.take(line("DELETED", "b", "edge-1", "Succeeded"), 6.0)
    watch.take(line("ADDED", None, "edge-1"), 7.0)

    assert (watch.bound, watch.ended, watch.nodes) == ({"a": 2.0}, {"a": 4.0}, {"a": "edge-1"})


def test_pods_that_fail_are_named() -> None:
    watch = PodWatch()

    watch.take(line("MODIFIED", "a", "edge-1", "Failed"), 1.0)

    assert watch.failed == {"a-x"}


def test_fault_of_the_watch_ends_the_run() -> None:
    with pytest.raises(BenchError, match="too old"):
        PodWatch().take(json.encode({"type": "ERROR", "object": {"message": "too old resource version"}}), 1.0)
