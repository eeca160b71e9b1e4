"""How much the jobs of a namespace may keep on the results volume. Decides about uploads as a whole, in their order.

An upload that fits is admitted, and all of it counts from then on; one that does not waits, and counts with what it has
sent only: else two that wait would keep each other out.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from http import HTTPStatus
from typing import Final

from cachetools import TTLCache

from edgewise.gateway.cluster import Cluster
from edgewise.gateway.identity import asking
from edgewise.gateway.problems import Refusal
from edgewise.gateway.volume import Volume
from edgewise.notation import parse_quantity

logger = logging.getLogger(__name__)

ANNOTATION: Final = "edgewise.dev/results-quota"
KNOWN_SECONDS: Final = 60.0
"""How long a namespace's annotation is remembered."""
IDLE_SECONDS: Final = 600.0
"""After so long without a request an upload has lost its place."""


@dataclass(frozen=True, slots=True)
class _Limit:
    bytes_: int | None


class Quotas:
    """Which uploads are admitted. Forgets them with the process: they are admitted anew."""

    def __init__(self, volume: Volume, cluster: Cluster, default_bytes: int | None) -> None:
        """`default_bytes` is for namespaces without the annotation; None: no limit."""
        self._volume = volume
        self._cluster = cluster
        self._default = default_bytes
        self._limits: TTLCache[str, _Limit] = TTLCache(4096, KNOWN_SECONDS, time.monotonic)
        self._admitted: TTLCache[tuple[str, str], tuple[str, int]] = TTLCache(4096, IDLE_SECONDS, time.monotonic)

    async def admit(
        self, namespace: str, job_uid: str, pod_uid: str, sizes: Mapping[str, int], *, anew: bool = False
    ) -> None:
        """Returns if the upload of these contents fits, or did before. Raises `Refusal` (507, 503).

        `anew` forgets that it did, for a plan that may have changed.
        """
        key = job_uid, pod_uid
        if anew:
            self._admitted.pop(key, None)
        if (place := self._admitted.get(key)) is not None:
            self._admitted[key] = place
            return
        limit = await self._limit(namespace)
        if limit is None:
            return
        new = await self._volume.new_bytes(job_uid, sizes)
        others = frozenset(self._admitted)
        held = await self._volume.held_bytes(namespace, others | {key})
        held += sum(size for owner, size in self._admitted.values() if owner == namespace)
        if new and held + new > limit:
            logger.info(
                "namespace %s: %d of %d bytes are taken, %d more would be too many", namespace, held, limit, new
            )
            # Without figures that move: agents show the sentence in the job's status, and each change is a write.
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "QuotaExceeded",
                f"The results of namespace {namespace} may take {limit} bytes, and these would be more. They wait: "
                "delete old results (spec.retention.results of their EdgeJobs), or ask an admin for a larger "
                f"annotation {ANNOTATION} on the Namespace.",
            )
        self._admitted[key] = namespace, new

    async def admit_bundle(self, namespace: str, tar_bytes: int) -> None:
        """Returns if a bundle of that size fits beside everything that counts. Raises `Refusal` (507, 503)."""
        limit = await self._limit(namespace)
        if limit is None:
            return
        held = await self._volume.held_bytes(namespace, frozenset(self._admitted))
        held += sum(size for owner, size in self._admitted.values() if owner == namespace)
        if held + tar_bytes > limit:
            raise Refusal(
                HTTPStatus.INSUFFICIENT_STORAGE,
                "QuotaExceeded",
                f"Results and bundles of namespace {namespace} take {held} of the {limit} bytes that they may; this "
                f"bundle would add {tar_bytes}. Delete old results, or ask an admin for a larger annotation "
                f"{ANNOTATION} on the Namespace.",
            )

    async def recount(self, job_uid: str, pod_uid: str, sizes: Mapping[str, int]) -> None:
        """A part of the upload is stored and counts as that: from now on its place is for the rest."""
        if (place := self._admitted.get((job_uid, pod_uid))) is not None:
            self._admitted[job_uid, pod_uid] = place[0], await self._volume.new_bytes(job_uid, sizes)

    def release(self, job_uid: str, pod_uid: str) -> None:
        """The upload is over: from now on what it has stored counts."""
        self._admitted.pop((job_uid, pod_uid), None)

    async def _limit(self, namespace: str) -> int | None:
        if (known := self._limits.get(namespace)) is not None:
            return known.bytes_
        text = (await asking(self._cluster.namespace_annotations(namespace))).get(ANNOTATION)
        limit = _Limit(self._default if text is None else self._parsed(namespace, text))
        self._limits[namespace] = limit
        return limit.bytes_

    def _parsed(self, namespace: str, text: str) -> int | None:
        try:
            return quota_bytes(text)
        except ValueError as error:
            logger.warning("namespace %s: the annotation %s is not used: %s", namespace, ANNOTATION, error)
            return self._default


def quota_bytes(text: str) -> int:
    """A quantity of Kubernetes, such as 10Gi, in bytes. Raises `ValueError`."""
    size: Decimal = parse_quantity(text)
    if size < 0:
        raise ValueError(f"{text!r} is less than nothing: give a size such as 10Gi")
    return int(size)
