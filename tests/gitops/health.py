"""The health of objects as kstatus, Argo CD and Flux compute it, from the files that users get.

`manifests/gitops/` holds Argo CD's Lua and Flux's CEL; the Go program in `health/` runs them, by the libraries of
those tools.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from testbed.binaries import built

_HERE: Final = Path(__file__).parent
_GIVEN: Final = _HERE.parents[1] / "manifests" / "gitops"
_LUA: Final = "resource.customizations.health.edgewise.dev_"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What each tool says of one object, with the message that it shows where it has one."""

    kstatus: str
    argo_cd: str
    flux: str
    message: str = ""


def judged(objects: Iterable[dict[str, Any]]) -> list[Verdict]:
    """The verdict on each object. Fails where a kind has no script or no expressions, or these can't be run."""
    given = {"objects": list(objects), "lua": lua_scripts(), "cel": cel_expressions()}
    done = subprocess.run(
        [built(_HERE / "health")], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [
        Verdict(one["kstatus"]["status"], one["argoCd"]["status"], one["flux"]["status"], one["argoCd"]["message"])
        for one in json.loads(done.stdout)
    ]


def lua_scripts() -> dict[str, str]:
    """Argo CD's script for each kind."""
    data = yaml.safe_load((_GIVEN / "argo-cd.yaml").read_text())["data"]
    return {name.removeprefix(_LUA): script for name, script in data.items()}


def cel_expressions() -> dict[str, dict[str, str]]:
    """Flux's expressions for each kind."""
    checks = yaml.safe_load((_GIVEN / "flux.yaml").read_text())["spec"]["healthCheckExprs"]
    return {one["kind"]: {name: text for name, text in one.items() if name in _EXPRESSIONS} for one in checks}


_EXPRESSIONS: Final = ("current", "failed", "inProgress")
