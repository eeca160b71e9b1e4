"""Runs other programs to their end and turns a failure into one clear line.

Never starts anything that outlives the call: that is what processes.py does.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testbed import paths
from testbed.errors import FleetError


def run(
    *command: str | Path,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    seconds: float | None = None,
) -> str:
    """Standard output of `command`.

    `environment` is added to the present one. With `log`, both output streams
    go to that file instead and the returned text is empty.

    Raises:
        FleetError: the program is missing, exits with anything but 0, or runs for more than `seconds`.
    """
    words = [str(word) for word in command]
    with log.open("ab") if log else open(os.devnull, "ab") as sink:  # noqa: PTH123 - both branches open the same way
        try:
            done = subprocess.run(
                words,
                input=stdin.encode() if stdin is not None else None,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=sink if log else subprocess.PIPE,
                stderr=sink if log else subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise FleetError(f"`{' '.join(words[:4])}` did not end within {seconds:g} s") from error
        except FileNotFoundError as error:
            raise FleetError(f"{words[0]} is not installed") from error
    if done.returncode != 0:
        said = log.read_bytes() if log else done.stderr or done.stdout
        raise FleetError(f"`{' '.join(words[:4])}` failed ({done.returncode}): {_last_line(said)}")
    return "" if log else done.stdout.decode()


def kubectl(kubeconfig: Path, *arguments: str, stdin: str | None = None, seconds: float | None = None) -> str:
    """Standard output of `kubectl ARGUMENTS` against the cluster of `kubeconfig`; `stdin` is what it reads.

    Raises:
        FleetError: kubectl exits with anything but 0, or not within `seconds`.
    """
    environment = {"KUBECONFIG": str(kubeconfig)}
    return run(paths.BIN / "kubectl", *arguments, stdin=stdin, environment=environment, seconds=seconds)


def installed(program: str) -> bool:
    """Whether `program` is on the PATH."""
    return shutil.which(program) is not None


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
