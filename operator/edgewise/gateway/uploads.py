"""The agents' side of the gateway: the upload protocol of `edgewise_agent.wire`, one handler a request.

Owns the order of the checks: whose agent, whose pod, does the job still exist, is there room. Never decides which
attempt's results count; how bodies get to the disk is in receiving.py.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from cachetools import TTLCache
from edgewise_agent.wire import OFFSET_HEADER, SHA256, UID, BlobStatus, UploadPlan, UploadStatus, Verdict
from msgspec import DecodeError, ValidationError, convert, json

from edgewise.gateway.cluster import Cluster, EdgeJobView
from edgewise.gateway.identity import Identity, asking
from edgewise.gateway.metrics import Metrics
from edgewise.gateway.plans import plan_fault
from edgewise.gateway.problems import Refusal, json_response
from edgewise.gateway.quota import Quotas
from edgewise.gateway.receiving import Receiver, body_of, read_plan, too_long, wrong_offset
from edgewise.gateway.records import AlreadyComplete, BytesMissing, JobIdentity, NoPlan, TooLate, sizes_of
from edgewise.gateway.turns import Turns
from edgewise.gateway.volume import Volume

ALIVE_SECONDS = 10.0
"""How long a job is taken for alive after it was seen."""
KNOWN_SECONDS = 600.0
KNOWN_BLOBS = 200_000
"""Of the uploads under way, so many blobs are remembered; each takes some 200 bytes."""
LONG_PLAN_BYTES = 1024 * 1024
LONG_PLANS_AT_ONCE = 1
"""A long plan takes some 100 MiB while it is checked."""
LONG_PLAN_SECONDS = 600.0
"""How long the body of a long plan may take, so that no slow sender holds up the others for ever."""


@dataclass(frozen=True, slots=True)
class _Upload:
    """What the requests after the plan need of it."""

    node: str
    namespace: str
    job: str
    sizes: Mapping[str, int]


class Uploads:
    """The handlers below /v1/uploads."""

    def __init__(
        self,
        volume: Volume,
        cluster: Cluster,
        identity: Identity,
        quotas: Quotas,
        metrics: Metrics,
        completed: Callable[[str, str], None],
    ) -> None:
        """`completed` is told the job and pod UID of each manifest that was written, possibly more than once."""
        self._volume = volume
        self._cluster = cluster
        self._identity = identity
        self._quotas = quotas
        self._metrics = metrics
        self._receiver = Receiver(volume, metrics)
        self._completed = completed
        self._turns = Turns()
        self._long_plans = asyncio.Semaphore(LONG_PLANS_AT_ONCE)
        self._known: TTLCache[tuple[str, str], _Upload] = TTLCache(
            KNOWN_BLOBS, KNOWN_SECONDS, time.monotonic, getsizeof=lambda upload: len(upload.sizes) + 1
        )
        self._alive: TTLCache[str, bool] = TTLCache(4096, ALIVE_SECONDS, time.monotonic)

    async def put_plan(self, request: web.Request) -> web.Response:
        """PUT: takes the plan of an attempt that the job's status knows, and says which bytes are missing."""
        job_uid, pod_uid = _uids(request)
        node = await self._identity.agent_node(request)
        long = request.content_length is None or request.content_length > LONG_PLAN_BYTES
        async with self._long_plans if long else nullcontext():
            plan = await self._volume.run(_plan, await read_plan(request, LONG_PLAN_SECONDS if long else None))
            view = await self._attempt_of(plan, job_uid, pod_uid, node)
            async with self._turns.take(f"{job_uid}/{pod_uid}"):
                try:
                    status = await self._volume.accept(_identity(view), pod_uid, node, plan)
                except AlreadyComplete:
                    raise Refusal(
                        HTTPStatus.UNPROCESSABLE_ENTITY,
                        "AlreadyComplete",
                        f"Pod {pod_uid} has already brought home the results of attempt {plan.attempt} of "
                        f"{plan.namespace}/{plan.job}, and these are other files: keep them for an admin.",
                    ) from None
                except TooLate:
                    raise Refusal(
                        HTTPStatus.CONFLICT,
                        "TooLate",
                        f"Pod {pod_uid} has ended and its plan of the whole is here: an earlier one changes nothing.",
                    ) from None
                sizes = sizes_of(plan)
                self._known[job_uid, pod_uid] = _Upload(node, plan.namespace, plan.job, sizes)
                await self._volume.keep_for(job_uid, view.results_seconds)
                if plan.ahead and view.stream is not None:
                    await self._keep_early(job_uid, pod_uid)
        if not status.complete:
            await self._quotas.admit(plan.namespace, job_uid, pod_uid, sizes, anew=True)
        needed = sum(sizes[blob.sha256] - blob.offset for blob in status.missing)
        if needed:
            await self._volume.require_room(needed)
        return json_response(status)

    async def patch_blob(self, request: web.Request) -> web.Response:
        """PATCH: appends the body to a blob at the offset that the header names."""
        job_uid, pod_uid = _uids(request)
        sha256 = _path_value(request, "sha256", SHA256)
        upload = await self._upload_of(request, job_uid, pod_uid)
        size = upload.sizes.get(sha256)
        if size is None:
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "NotInPlan",
                f"No file of the plan has SHA-256 {sha256}: PUT a plan that names it first.",
            )
        offset, body = _offset(request), body_of(request)
        async with self._turns.take(f"{job_uid}/{pod_uid}") as turn:
            held = await self._volume.offset(job_uid, pod_uid, sha256)
            if offset != held:
                raise wrong_offset(sha256, held, f"The blob goes on at byte {held}, not at {offset}")
            if not body.costly and offset + (request.content_length or 0) > size:
                raise too_long(sha256, size)
            if held < size:
                await self._quotas.admit(upload.namespace, job_uid, pod_uid, upload.sizes)
                async with self._receiver.writing(job_uid, pod_uid, sha256) as writer:
                    held = await self._receiver.receive(request, turn, writer, size, body)
                if held == size:
                    await self._keep_early(job_uid, pod_uid)
        return json_response(BlobStatus(sha256=sha256, offset=held))

    async def post_complete(self, request: web.Request) -> web.Response:
        """POST: verifies every blob and answers with the manifest, which a power cut can't take away any more."""
        job_uid, pod_uid = _uids(request)
        upload = await self._upload_of(request, job_uid, pod_uid)
        async with self._turns.take(f"{job_uid}/{pod_uid}"):
            try:
                manifest = await self._volume.complete(job_uid, pod_uid)
            except NoPlan:
                raise _no_plan(job_uid, pod_uid) from None
            except BytesMissing as missing:
                await self._quotas.recount(job_uid, pod_uid, upload.sizes)
                blobs = ", ".join(f"{blob.sha256} from byte {blob.offset}" for blob in missing.blobs[:5])
                raise Refusal(
                    HTTPStatus.CONFLICT,
                    "BytesMissing",
                    f"{len(missing.blobs)} blobs are incomplete or were damaged on the way ({blobs}"
                    f"{', …' if len(missing.blobs) > 5 else ''}): PUT the plan again and send what it asks for.",
                    resume=missing.blobs[0],
                ) from None
            except InterruptedError:
                raise _stopping() from None
        self._known.pop((job_uid, pod_uid), None)
        self._quotas.release(job_uid, pod_uid)
        self._metrics.manifests.inc()
        self._completed(job_uid, pod_uid)
        return json_response(manifest)

    async def get_status(self, request: web.Request) -> web.Response:
        """GET: whether a complete upload is settled, so that its device need not keep a copy.

        The operator's verdict is in the job's status before it is here: whoever reads it here may rely on both.
        """
        job_uid, pod_uid = _uids(request)
        node = await self._identity.agent_node(request)
        arrival = await self._volume.arrival(job_uid, pod_uid)
        if arrival is None:
            raise Refusal(
                HTTPStatus.TOO_EARLY,
                "NotComplete",
                f"The upload {job_uid}/{pod_uid} is not complete here: PUT its plan, and send what is missing.",
            )
        if arrival.node != node:
            raise _not_yours(arrival.namespace, arrival.job, pod_uid, arrival.node, node)
        settled = await self._volume.verdict(job_uid, pod_uid) is not Verdict.PENDING
        return json_response(UploadStatus(missing=(), complete=True, settled=settled))

    async def _keep_early(self, job_uid: str, pod_uid: str) -> None:
        """Keep what is whole of a stream's run that still runs."""
        try:
            await self._volume.keep_early(job_uid, pod_uid)
        except InterruptedError:
            raise _stopping() from None

    async def _attempt_of(self, plan: UploadPlan, job_uid: str, pod_uid: str, node: str) -> EdgeJobView:
        """The job, once its status is seen to have that attempt in that pod on that node."""
        view = await self._live_job(plan.namespace, plan.job, job_uid, pod_uid, node)
        attempt = view.attempt_of(pod_uid)
        if attempt is None and view.has_passed(plan.attempt):
            await self._give_up(plan.namespace, plan.job, job_uid, pod_uid, node)
            raise Refusal(
                HTTPStatus.GONE,
                "AttemptForgotten",
                f"The status of EdgeJob {plan.namespace}/{plan.job} has later attempts than number {plan.attempt} in "
                f"pod {pod_uid}, and not this one: nothing of it can be the job's results. Discard them.",
            )
        if attempt is None:
            raise Refusal(
                HTTPStatus.TOO_EARLY,
                "AttemptNotRecorded",
                f"The status of EdgeJob {plan.namespace}/{plan.job} has no attempt in pod {pod_uid} yet: try again.",
            )
        if attempt.node != node:
            raise _not_yours(plan.namespace, plan.job, pod_uid, attempt.node, node)
        if attempt.number != plan.attempt or attempt.pod_name not in ("", plan.pod_name):
            raise Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "AttemptMismatch",
                f"Pod {pod_uid} of EdgeJob {plan.namespace}/{plan.job} is {attempt.pod_name}, attempt "
                f"{attempt.number}; the plan says {plan.pod_name}, attempt {plan.attempt}.",
            )
        return view

    async def _upload_of(self, request: web.Request, job_uid: str, pod_uid: str) -> _Upload:
        """The upload that `request` goes on with, once it is seen to be its agent's, and the job to be there still."""
        node = await self._identity.agent_node(request)
        upload = await self._known_upload(job_uid, pod_uid)
        if upload is None:
            raise _no_plan(job_uid, pod_uid)
        if upload.node != node:
            raise _not_yours(upload.namespace, upload.job, pod_uid, upload.node, node)
        if job_uid not in self._alive:
            await self._live_job(upload.namespace, upload.job, job_uid, pod_uid, node)
        return upload

    async def _known_upload(self, job_uid: str, pod_uid: str) -> _Upload | None:
        known = self._known.get((job_uid, pod_uid))
        if known is not None:
            return known
        if (manifest := await self._volume.manifest(job_uid, pod_uid)) is not None:
            upload = _Upload(manifest.node, manifest.namespace, manifest.job, sizes_of(manifest))
        elif (accepted := await self._volume.plan(job_uid, pod_uid)) is not None:
            upload = _Upload(accepted.node, accepted.plan.namespace, accepted.plan.job, sizes_of(accepted.plan))
        else:
            return None
        self._known[job_uid, pod_uid] = upload
        return upload

    async def _live_job(self, namespace: str, job: str, job_uid: str, pod_uid: str, node: str) -> EdgeJobView:
        """The EdgeJob. If it is gone, so is what `node` has sent for it."""
        view = await asking(self._cluster.edge_job(namespace, job))
        if view is not None and view.metadata.uid == job_uid:
            self._alive[job_uid] = True
            return view
        await self._give_up(namespace, job, job_uid, pod_uid, node)
        raise Refusal(
            HTTPStatus.GONE,
            "JobGone",
            f"EdgeJob {namespace}/{job} with UID {job_uid} is deleted: discard these results.",
        )

    async def _give_up(self, namespace: str, job: str, job_uid: str, pod_uid: str, node: str) -> None:
        """Drops what came from this node, for the job of this name: a plan may say anything."""
        upload = await self._known_upload(job_uid, pod_uid)
        if upload is None or (upload.node, upload.namespace, upload.job) != (node, namespace, job):
            return
        self._known.pop((job_uid, pod_uid), None)
        async with self._turns.take(f"{job_uid}/{pod_uid}"):
            await self._volume.discard(job_uid, pod_uid)
        self._quotas.release(job_uid, pod_uid)


def _identity(view: EdgeJobView) -> JobIdentity:
    meta = view.metadata
    stream = view.stream
    return JobIdentity(
        uid=meta.uid,
        namespace=meta.namespace,
        name=meta.name,
        created_at=meta.creation_timestamp,
        stream=stream.name if stream else "",
        stream_uid=stream.uid if stream else "",
    )


def _stopping() -> Refusal:
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Stopping", "The gateway is being restarted: try again.")


def _plan(body: bytes) -> UploadPlan:
    try:
        plan = json.decode(body, type=UploadPlan)
    except (DecodeError, UnicodeDecodeError) as error:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "BadPlan", f"The body is not an upload plan: {error}.") from None
    if fault := plan_fault(plan):
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "BadPlan", f"The upload plan can't be taken: {fault}")
    return plan


def _uids(request: web.Request) -> tuple[str, str]:
    return _path_value(request, "job", UID), _path_value(request, "pod", UID)


def _path_value(request: web.Request, name: str, kind: object) -> str:
    value = request.match_info[name]
    try:
        return str(convert(value, kind))
    except ValidationError:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "BadPath", f"{value!r} in the path is not a {name} as it should be."
        ) from None


def _offset(request: web.Request) -> int:
    value = request.headers.get(OFFSET_HEADER, "")
    if re.fullmatch("[0-9]{1,19}", value) is None:
        raise Refusal(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "BadOffset",
            f"The header {OFFSET_HEADER} is {value!r}: give the position of the body's first byte in the blob.",
        )
    return int(value)


def _no_plan(job_uid: str, pod_uid: str) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_EARLY, "NoPlan", f"The upload {job_uid}/{pod_uid} is not known here: PUT its plan first."
    )


def _not_yours(namespace: str, job: str, pod_uid: str, bound: str, node: str) -> Refusal:
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "NotYourPod",
        f"Pod {pod_uid} of EdgeJob {namespace}/{job} ran on {bound}; the agent of {node} can't send its results.",
    )
