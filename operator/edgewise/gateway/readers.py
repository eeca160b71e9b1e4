"""Which job or stream a user's request means, once it is seen that the user may read it. Serves nothing itself."""

import time
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from cachetools import TTLCache
from edgewise_agent.wire import UID
from msgspec import ValidationError, convert

from edgewise.gateway.cluster import Cluster, EdgeJobView, JobResults
from edgewise.gateway.identity import Identity, asking
from edgewise.gateway.problems import Refusal
from edgewise.gateway.records import JobIdentity
from edgewise.gateway.volume import Volume

JOB_SECONDS = 2.0
"""How long the answer to 'which job has this name' is remembered."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The job that a request means. `live` is the EdgeJob itself, None if it is deleted."""

    namespace: str
    name: str
    uid: str
    live: EdgeJobView | None

    @property
    def path(self) -> str:
        """Where the gateway serves what belongs to the job."""
        return f"/v1/namespaces/{self.namespace}/jobs/{self.name}"

    @property
    def results(self) -> JobResults | None:
        """What the EdgeJob's status says of its results, once they are home."""
        results = self.live.status.results if self.live is not None else None
        return results if results is not None and results.are_home else None


@dataclass(frozen=True, slots=True)
class AskedStream:
    """The EdgeStream that a request means, and its runs of which anything has come, oldest first."""

    namespace: str
    name: str
    uid: str
    runs: tuple[JobIdentity, ...]

    def __str__(self) -> str:
        return f"EdgeStream {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        """Where the gateway serves what belongs to the stream."""
        return f"/v1/namespaces/{self.namespace}/streams/{self.name}"


class Readers:
    """The door for everybody who reads."""

    def __init__(self, volume: Volume, cluster: Cluster, identity: Identity) -> None:
        self._volume = volume
        self._cluster = cluster
        self._identity = identity
        self._current: TTLCache[tuple[str, str], EdgeJobView] = TTLCache(1024, JOB_SECONDS, time.monotonic)

    async def admit(self, request: web.Request) -> Asked:
        """The job that `request` names, by its name and perhaps ?uid=. Raises `Refusal` (401, 403, 404, 503)."""
        namespace, job = request.match_info["namespace"], request.match_info["job"]
        await self._identity.admit_reader(request, namespace, job)
        asked = request.query.get("uid")
        if asked is not None:
            live = await self._live(namespace, job)
            if live is not None and live.metadata.uid == asked:
                return Asked(namespace, job, asked, live)
            kept = await self._volume.job(asked) if _is_uid(asked) else None
            if kept is not None and (kept.namespace, kept.name) == (namespace, job):
                return Asked(namespace, job, asked, None)
            raise _no_such_job(namespace, job, f" with UID {asked!r}")
        live = await self._live(namespace, job)
        if live is not None:
            return Asked(namespace, job, live.metadata.uid, live)
        newest = await self._volume.newest(namespace, job)
        if newest is None:
            raise _no_such_job(namespace, job, "")
        return Asked(namespace, job, newest, None)

    async def admit_stream(self, request: web.Request) -> AskedStream:
        """The stream that `request` names, by its name and perhaps ?uid=. Raises `Refusal` (401, 403, 404, 503).

        A name means the EdgeStream that has it now; if that is deleted, the last one that a run brought something of.
        """
        namespace, name = request.match_info["namespace"], request.match_info["stream"]
        await self._identity.admit_reader(request, namespace, name, "edgestreams")
        runs = await self._volume.runs(namespace, name)
        uid = request.query.get("uid")
        live = None
        if uid is None or all(run.stream_uid != uid for run in runs):
            live = await asking(self._cluster.edge_stream(namespace, name))
        wanted = uid or live or (runs[-1].stream_uid if runs else None)
        theirs = tuple(run for run in runs if run.stream_uid == wanted)
        if wanted is None or (not theirs and wanted != live):
            which = f" with UID {uid!r}" if uid else ""
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NoSuchStream",
                f"There is no EdgeStream {namespace}/{name}{which}, nor files of one: `kubectl get edgestreams -n "
                f"{namespace}` lists those that there are.",
            )
        return AskedStream(namespace, name, wanted, theirs)

    async def _live(self, namespace: str, job: str) -> EdgeJobView | None:
        """The EdgeJob that has this name now."""
        known = self._current.get((namespace, job))
        if known is not None:
            return known
        view = await asking(self._cluster.edge_job(namespace, job))
        if view is not None:
            self._current[namespace, job] = view
        return view


def results_lost(asked: Asked, results: JobResults) -> Refusal:
    """The job's status names results that are not on the volume."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "ResultsLost",
        f"The status of EdgeJob {asked.namespace}/{asked.name} names the results of attempt {results.attempt} in pod "
        f"{results.pod_uid}, but they are not on the results volume, as after the volume was restored from an older "
        "backup: an admin should look for a newer one; else run the job again under another name.",
    )


def _is_uid(value: str) -> bool:
    try:
        convert(value, UID)
    except ValidationError:
        return False
    return True


def _no_such_job(namespace: str, job: str, which: str) -> Refusal:
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "NoSuchJob",
        f"There is no EdgeJob {namespace}/{job}{which}, nor results of one: `kubectl get edgejobs -n {namespace}` "
        "lists those that there are.",
    )
