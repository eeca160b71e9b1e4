"""The runs of a set: their names, what makes an EdgeJob one of them, their manifests, and how a status counts them.

Owns nothing of when one starts. A run's name is made from its index or its device, so it is the same after a crash, and
the API server refuses the second of two.
"""

from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from edgewise.api import API_VERSION, Phase, Retention, spec_body
from edgewise.api.edge_job import DEVICE_DIGEST, Forever
from edgewise.api.metadata import NAME_LENGTH
from edgewise.domain.pods import INDEX_LABEL, NODE_LABEL, SET_LABEL
from edgewise.domain.views import JobView, Key

OF_THE_SET: Final = ("parallelism", "maxFailedIndexes")
"""Fields of a set's spec that its runs don't have."""


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a set: of an index, or on a device."""

    job: JobView
    index: int | None
    device: str
    """empty where it has an index"""

    @property
    def place(self) -> str:
        """What tells it from the others, for people."""
        return self.device or f"index {self.index}"

    @property
    def succeeded(self) -> bool:
        """Whether it has ended well."""
        return self.job.finished and self.job.status.phase is Phase.SUCCEEDED

    @property
    def cancelled(self) -> bool:
        """Whether somebody, or its set, has ended it."""
        return self.job.finished and self.job.status.phase is Phase.CANCELLED


def member_of(owner: JobView, job: JobView) -> Member | None:
    """The job as a run of the set `owner`; None unless that controls it and can have given it its name and place."""
    if job.set_uid != owner.uid or job.key.namespace != owner.key.namespace or job.is_set:
        return None
    if owner.spec.placement.every_device is not None:
        device = job.spec.placement.node_name
        return Member(job, None, device) if device and job.key == device_key(owner, device) else None
    index = job.spec.index
    if index is None or index >= owner.spec.completions or job.key != index_key(owner, index):
        return None
    return Member(job, index, "")


def index_key(owner: JobView, index: int) -> Key:
    """The name of the run of an index: `<set>-<index>`."""
    return Key(owner.key.namespace, f"{owner.key.name}-{index}")


def device_key(owner: JobView, device: str) -> Key:
    """The name of the run on a device: `<set>-<device>`, of a long one its beginning and characters made from it."""
    return Key(owner.key.namespace, _device_name(owner.key.name, device))


@lru_cache(maxsize=16_384)  # of thousands of devices, all are looked up in each pass
def _device_name(owner: str, device: str) -> str:
    room = NAME_LENGTH - len(owner) - 1
    if len(device) <= room:
        return f"{owner}-{device}"
    digest = b32encode(sha256(device.encode()).digest()).decode().lower()[:DEVICE_DIGEST]
    return f"{owner}-{device[: room - 1 - DEVICE_DIGEST].rstrip('-.')}-{digest}"


def run_spec(owner: JobView) -> dict[str, Any]:
    """What all runs of the set have in their spec, as JSON."""
    body = {name: value for name, value in spec_body(owner.spec).items() if name not in OF_THE_SET}
    placement = {name: value for name, value in body.get("placement", {}).items() if name != "everyDevice"}
    return {**body, "placement": placement}


def build_member(owner: JobView, common: Mapping[str, Any], place: int | str) -> dict[str, Any]:
    """The EdgeJob of the run of an index, or on a device; `common` is `run_spec` of the set."""
    if isinstance(place, int):
        key, label = index_key(owner, place), {INDEX_LABEL: str(place)}
        spec = {**common, "index": place}
    else:
        key, label = device_key(owner, place), {NODE_LABEL: place} if len(place) <= LONGEST_LABEL else {}
        spec = {**common, "placement": {**common["placement"], "nodeName": place}}
    return {
        "apiVersion": API_VERSION,
        "kind": "EdgeJob",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {SET_LABEL: owner.key.name, **label},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "EdgeJob",
                    "name": owner.key.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


LONGEST_LABEL: Final = 63


def steering(owner: JobView, run: JobView, *, cancel: bool) -> dict[str, Any]:
    """The fields of a run's spec that must become as the set has them, as JSON. Those of a finished run: retention."""
    wanted, now = owner.spec, run.spec
    change: dict[str, Any] = {}
    if now.retention != wanted.retention:
        change["retention"] = _retention(wanted.retention)
    if run.finished:
        return change
    if now.priority != wanted.priority:
        change["priority"] = wanted.priority
    if now.suspend != wanted.suspend:
        change["suspend"] = wanted.suspend
    if cancel and not now.cancel:
        change["cancel"] = True
    return change


def _retention(retention: Retention) -> dict[str, Any]:
    """Both times in words: null in a merge patch would bring the default back."""
    return {"pods": retention.pods or Forever, "results": retention.results or Forever}


def at_most(limit: str | None, total: int) -> int:
    """How many of `total` a number or a percentage is: at least one, and a part counts as whole."""
    if limit is None:
        return total
    if limit.endswith("%"):
        return max(1, -(-total * int(limit[:-1]) // 100))
    return int(limit)


def written(indexes: Iterable[int]) -> str:
    """The indexes in order, several in a row by their first and last: `0-5,7`."""
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


@lru_cache(maxsize=1024)  # of each set that goes on, in each pass
def read(text: str) -> frozenset[int]:
    """The indexes that `written` wrote."""
    ends = [[int(end) for end in part.split("-")] for part in text.split(",") if part]
    return frozenset(index for part in ends for index in range(part[0], part[-1] + 1))
