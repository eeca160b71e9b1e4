"""What the agent may not cost a device: heavy libraries, a second version number."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from edgewise_agent import __version__

REPOSITORY = Path(__file__).parents[2]
HEAVY = {"aiohttp", "cryptography", "edgewise", "kopf", "kubernetes", "pydantic", "yaml"}
"""What the operator may use and a device must not load."""


def test_nothing_heavy_is_imported() -> None:
    program = "import edgewise_agent.main, sys; print('\\n'.join(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "agent")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "grpclib" in modules
    assert modules & HEAVY == set()


def test_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
