"""The examples' own libraries, installed once from their lock file into the cache, and a way to run an example."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import pytest

from testbed import paths

ROOT = Path(__file__).parents[2]

RunExample = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def libraries() -> Path:
    """A folder with what requirements/vision.txt locks, for this Python; kept for the next run."""
    lock = ROOT / "requirements" / "vision.txt"
    key = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    cache = paths.cache() / "vision"
    folder = cache / key
    if not folder.exists():
        unfinished = cache / f"{key}.{os.getpid()}"
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        wheels = ["--python", sys.executable, "--target", str(unfinished), "--requirements", str(lock)]
        try:
            subprocess.run([*install, *wheels], check=True)
            if not folder.exists():
                unfinished.rename(folder)
        finally:
            rmtree(unfinished, ignore_errors=True)
    return folder


@pytest.fixture
def run_example(libraries: Path, tmp_path: Path) -> RunExample:
    """Runs an example's script as its pod does, with tmp_path as the folder of outputs."""

    def run(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(libraries),
            "EDGEWISE_OUTPUTS": str(tmp_path),
            "EDGEWISE_NODE": "edge-1",
        }
        command = [sys.executable, str(ROOT / "examples" / script), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run
