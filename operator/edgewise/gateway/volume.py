"""The store, as asyncio calls it: in threads, one change of a job at a time. Adds no rule of its own."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from errno import ENOSPC
from typing import BinaryIO, ParamSpec, TypeVar

from edgewise_agent.wire import Manifest, ResultFile, UploadPlan, UploadStatus, Verdict

from edgewise.gateway.durable import VolumeFull
from edgewise.gateway.home import HomeFile, files_of_run
from edgewise.gateway.partial import BlobWriter
from edgewise.gateway.records import AcceptedPlan, Arrival, Expirable, JobIdentity, KeptAttempt, RemovedNote
from edgewise.gateway.store import Store
from edgewise.gateway.turns import Turns

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

IO_THREADS = 8
VERIFY_THREADS = 2
"""Reading whole blobs takes long: it has threads of its own, so that it never holds up the short calls."""
RESERVE_BYTES = 1024 * 1024
"""What uploads and bundles leave free: to remove something, a few small notes must be written first."""


class Volume:
    """Owns the threads that touch the disk and the lock of each job."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs = Turns()
        self._io = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="volume")
        self._verifying = ThreadPoolExecutor(VERIFY_THREADS, thread_name_prefix="verify")
        self._stop = threading.Event()

    def end_verifying(self) -> None:
        """Ends what may take minutes; it is begun anew when the agent asks again."""
        self._stop.set()

    def close(self) -> None:
        """Ends verifications, waits for what is being written, and gives the volume free."""
        self.end_verifying()
        self._verifying.shutdown()
        self._io.shutdown()
        self._store.close()

    async def run(self, call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Calls something that touches the disk. A cancelled caller gets its cancellation once the call has ended."""
        return await _in_thread(self._io, lambda: call(*args, **kwargs))

    async def accept(self, job: JobIdentity, pod_uid: str, node: str, plan: UploadPlan) -> UploadStatus:
        """`Staging.accept`."""
        async with self._jobs.take(job.uid):
            return await self.run(self._store.staging.accept, job, pod_uid, node, plan)

    async def complete(self, job_uid: str, pod_uid: str) -> Manifest:
        """`Staging.complete`, now. Raises `InterruptedError` when the gateway stops meanwhile."""
        async with self._jobs.take(job_uid):
            now = datetime.now(UTC)
            return await _in_thread(
                self._verifying, lambda: self._store.staging.complete(job_uid, pod_uid, now, self._stop)
            )

    async def keep_early(self, job_uid: str, pod_uid: str) -> None:
        """`Staging.keep_early`, now. Raises `InterruptedError` when the gateway stops meanwhile."""
        async with self._jobs.take(job_uid):
            now = datetime.now(UTC)
            await _in_thread(self._verifying, lambda: self._store.staging.keep_early(job_uid, pod_uid, now, self._stop))

    async def discard(self, job_uid: str, pod_uid: str) -> None:
        """`Staging.discard`."""
        async with self._jobs.take(job_uid):
            await self.run(self._store.staging.discard, job_uid, pod_uid)

    async def settle(self, job_uid: str, pod_uid: str, verdict: Verdict) -> None:
        """Carries out the operator's final verdict on a manifest. Raises `VolumeFull`."""
        async with self._jobs.take(job_uid):
            now = datetime.now(UTC)
            match verdict:
                case Verdict.PUBLISHED:
                    await self.run(self._store.results.publish, job_uid, pod_uid, now)
                case Verdict.SUPERSEDED:
                    await self.run(self._store.results.set_aside, job_uid, pod_uid, now)
                case Verdict.GONE:
                    await self.run(self._store.results.remove, job_uid, pod_uid)
                case Verdict.PENDING:
                    raise ValueError(f"the verdict on {job_uid}/{pod_uid} is not final: ask again before settling it")

    async def keep_for(self, job_uid: str, results_seconds: float | None) -> None:
        """`Results.keep_for`."""
        async with self._jobs.take(job_uid):
            await self.run(self._store.results.keep_for, job_uid, results_seconds)

    async def expire(self, job_uid: str, pod_uid: str, now: datetime, why: str) -> None:
        """`Results.expire`."""
        async with self._jobs.take(job_uid):
            await self.run(self._store.results.expire, job_uid, pod_uid, now, why)

    async def expire_early(self, job_uid: str, until: datetime) -> int:
        """`Results.expire_early`."""
        async with self._jobs.take(job_uid):
            return await self.run(self._store.results.expire_early, job_uid, until)

    async def tidy(self, job_uid: str) -> None:
        """`Results.tidy`."""
        async with self._jobs.take(job_uid):
            await self.run(self._store.results.tidy, job_uid)

    async def forget(self, job_uid: str) -> None:
        """`Results.forget`."""
        async with self._jobs.take(job_uid):
            await self.run(self._store.results.forget, job_uid)

    async def job_uids(self) -> list[str]:
        """`Results.job_uids`."""
        return await self.run(self._store.results.job_uids)

    async def kept_for(self, job_uid: str) -> float | None:
        """`Results.kept_for`."""
        return await self.run(self._store.results.kept_for, job_uid)

    async def expirable(self, job_uid: str) -> list[Expirable]:
        """`Results.expirable`."""
        return await self.run(self._store.results.expirable, job_uid)

    async def runs(self, namespace: str, stream: str) -> list[JobIdentity]:
        """`Early.runs`."""
        return await self.run(self._store.early.runs, namespace, stream)

    async def home_of(self, job_uid: str) -> list[HomeFile]:
        """`home.files_of_run`."""
        return await self.run(files_of_run, self._store.results, self._store.early, job_uid)

    async def removed(self, job_uid: str, pod_uid: str) -> RemovedNote | None:
        """`Results.removed`."""
        return await self.run(self._store.results.removed, job_uid, pod_uid)

    async def held_bytes(self, namespace: str, without: frozenset[tuple[str, str]]) -> int:
        """`Results.held_bytes`."""
        return await self.run(self._store.results.held_bytes, namespace, without)

    async def new_bytes(self, job_uid: str, sizes: Mapping[str, int]) -> int:
        """`Results.new_bytes`."""
        return await self.run(self._store.results.new_bytes, job_uid, sizes)

    async def arrival(self, job_uid: str, pod_uid: str) -> Arrival | None:
        """`Results.arrival`."""
        return await self.run(self._store.results.arrival, job_uid, pod_uid)

    async def verdict(self, job_uid: str, pod_uid: str) -> Verdict:
        """`Results.verdict`."""
        return await self.run(self._store.results.verdict, job_uid, pod_uid)

    async def plan(self, job_uid: str, pod_uid: str) -> AcceptedPlan | None:
        """`Staging.plan`."""
        return await self.run(self._store.staging.plan, job_uid, pod_uid)

    async def offset(self, job_uid: str, pod_uid: str, sha256: str) -> int:
        """`Staging.offset`."""
        return await self.run(self._store.staging.offset, job_uid, pod_uid, sha256)

    async def append(self, job_uid: str, pod_uid: str, sha256: str) -> BlobWriter:
        """`Staging.append`."""
        return await self.run(self._store.staging.append, job_uid, pod_uid, sha256)

    async def idle_uploads(self, seconds: float) -> list[tuple[JobIdentity, str]]:
        """`Staging.idle_uploads`."""
        return await self.run(self._store.staging.idle_uploads, seconds)

    async def pending(self) -> list[tuple[str, str]]:
        """`Results.pending`."""
        return await self.run(self._store.results.pending)

    async def manifest(self, job_uid: str, pod_uid: str) -> Manifest | None:
        """`Results.manifest`."""
        return await self.run(self._store.results.manifest, job_uid, pod_uid)

    async def manifest_bytes(self, job_uid: str, pod_uid: str) -> bytes | None:
        """`Results.manifest_bytes`."""
        return await self.run(self._store.results.manifest_bytes, job_uid, pod_uid)

    async def published(self, job_uid: str) -> Manifest | None:
        """`Results.published`."""
        return await self.run(self._store.results.published, job_uid)

    async def attempts(self, job_uid: str) -> list[KeptAttempt]:
        """`Results.attempts`."""
        return await self.run(self._store.results.attempts, job_uid)

    async def newest(self, namespace: str, name: str) -> str | None:
        """`Results.newest`."""
        return await self.run(self._store.results.newest, namespace, name)

    async def job(self, job_uid: str) -> JobIdentity | None:
        """`Results.job`."""
        return await self.run(self._store.results.job, job_uid)

    async def is_uploading(self, job_uid: str) -> bool:
        """`Results.is_uploading`."""
        return await self.run(self._store.results.is_uploading, job_uid)

    async def lost_of(self, job_uid: str, files: Iterable[ResultFile]) -> ResultFile | None:
        """`Results.lost_of`."""
        return await self.run(self._store.results.lost_of, job_uid, files)

    async def open_blob(self, job_uid: str, sha256: str) -> BinaryIO:
        """`Results.open_blob`."""
        return await self.run(self._store.results.open_blob, job_uid, sha256)

    async def free_bytes(self) -> int:
        """`Store.free_bytes`."""
        return await self.run(self._store.free_bytes)

    async def require_room(self, bytes_: int) -> None:
        """Returns if so much more leaves the reserve free. Raises `VolumeFull`."""
        if bytes_ + RESERVE_BYTES > await self.free_bytes():
            raise VolumeFull(ENOSPC, "the results volume has no room beside its reserve")


async def _in_thread(executor: Executor, call: Callable[[], Result]) -> Result:
    future = asyncio.get_running_loop().run_in_executor(executor, call)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()
