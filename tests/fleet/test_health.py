"""What kstatus, Argo CD and Flux say of real jobs, at every state that the API server ever held."""

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from testbed import Fleet, paths
from tests.fleet.work import make_app, start
from tests.gitops.health import judged

pytestmark = pytest.mark.usefixtures("edgewise")

WRITES = """
import os, pathlib
(pathlib.Path(os.environ["EDGEWISE_OUTPUTS"]) / "one.csv").write_text("a\\n1\\n")
"""
BREAKS = "import sys; sys.exit(3)"


@contextmanager
def recorded(namespace: str, file: Path) -> Iterator[None]:
    """Every state of the namespace's EdgeJobs, written to a file as kubectl's watch tells of them."""
    watch = [str(paths.BIN / "kubectl"), "get", "edgejobs", "--namespace", namespace, "--watch", "--output=json"]
    with file.open("w") as output, subprocess.Popen(watch, stdout=output) as process:
        try:
            yield
        finally:
            process.terminate()


def states(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The recorded states of each EdgeJob, oldest first."""
    text, at, found = file.read_text(), 0, defaultdict(list)
    while text[at:].strip():
        job, at = json.JSONDecoder().raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        found[job["metadata"]["name"]].append(job)
    return found


def test_jobs_are_told_as_they_are_all_their_life(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    with recorded(namespace, tmp_path / "watch"):
        good = start(fleet, namespace, "good", "writes")  # before its app, as a folder is applied in any order
        bad = start(fleet, namespace, "bad", "breaks", retry={"maxAttempts": 2, "backoffSeconds": 1})
        make_app(fleet, namespace, "writes", WRITES)
        make_app(fleet, namespace, "breaks", BREAKS)
        good.until("Complete")
        bad.until("Failed")
    held = states(tmp_path / "watch")
    for name, end in (("good", ("Current", "Healthy", "Current")), ("bad", ("Failed", "Degraded", "Failed"))):
        assert held[name][0]["status"] == {"observedGeneration": -1}, "recorded from its creation on"
        told = [(one.kstatus, one.argo_cd, one.flux) for one in judged(held[name])]
        assert [verdict for verdict, _ in groupby(told)] == [("InProgress", "Progressing", "InProgress"), end]
        assert len(told) > 3, "and through its attempts"
