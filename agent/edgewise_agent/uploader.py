"""Sends spooled volumes home, a few at once and the oldest results first, for as long as it takes.

This module owns the waits and the resumption of uploads. Whatever is cut off goes on at the offset that the
gateway names. It reads files in blocks, so its memory does not grow with them, and it gives a volume up only when the
gateway has acknowledged it and settled it with the operator, or says that its job is gone. Where the app wants it,
finished files go ahead of its end. docs/decisions/copies-until-settled.md says why an acknowledgement is not enough.
"""

import asyncio
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from edgewise_agent.ahead import Ahead, wants_ahead
from edgewise_agent.backoff import Backoff
from edgewise_agent.collect import collect, collect_logs
from edgewise_agent.journal import Finish
from edgewise_agent.lanes import MANY_FILES, Lanes, in_order
from edgewise_agent.measure import measure_spooled
from edgewise_agent.tree import open_below
from edgewise_agent.uplink.connection import Unreachable
from edgewise_agent.uplink.gateway import Conflict, Deferred, Gateway, NotUnpacked, Refused, TooEarly, Unwanted
from edgewise_agent.uplink.packing import pack
from edgewise_agent.volumes.table import Held, VolumeTable
from edgewise_agent.wire import BlobStatus, PlannedFile, UploadPlan, VolumeState

CHUNK_BYTES: Final = 4 * 2**20
"""Sent in one request: what a cut connection may cost."""
BLOCK_BYTES: Final = 128 * 1024
MOST_STALLS: Final = 5
"""Requests in a row that may leave a blob's offset where it was or put it back."""
REFUSED_AGAIN_SECONDS: Final = 3600.0
"""A refused volume is offered again this rarely: its job may be gone by then, or what was wrong put right."""
FAILED_AGAIN_SECONDS: Final = 60.0
AHEAD_SECONDS: Final = 15.0
"""How often a running app's folder is searched for finished files."""
TURN_SECONDS: Final = 30.0
"""What goes ahead gives its lane to results that wait for one, but not before it had it for so long."""
FIRST_CHECK_SECONDS: Final = 10.0
MOST_CHECK_SECONDS: Final = 600.0
"""How often the gateway is asked at least whether what it acknowledged is settled."""
PLAIN_SECONDS: Final = 3600.0
"""How long a gateway is believed that takes no compressed bodies: it may be replaced by one that does."""

_log = logging.getLogger(__name__)


class PlanOutdated(RuntimeError):
    """The files are not, or no longer, what the plan says."""


class Stopping(RuntimeError):
    """The agent stops; the upload goes on after its next start."""


class Ended(RuntimeError):
    """The volume is not in its pod any more: what it holds is sent as a whole."""


class GivesWay(RuntimeError):
    """The results of an ended pod wait for the lane: what goes ahead goes on later."""


class Uploader:
    """Uploads what the table says is waiting. `wake` it when that may have changed."""

    def __init__(self, table: VolumeTable, gateway: Gateway, *, concurrency: int) -> None:
        """`concurrency` volumes are sent at once at most, each in a thread."""
        self._table = table
        self._gateway = gateway
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._lanes = Lanes(concurrency)
        self._gateway_backoff = Backoff(1, 60)
        self._gateway_not_before = 0.0
        self._backoffs: dict[str, Backoff] = {}
        self._not_before: dict[str, float] = {}
        self._waiting_since: dict[str, float] = {}
        self._ahead = Ahead()
        self._ahead_not_before: dict[str, float] = {}
        self._check_backoffs: dict[str, Backoff] = {}
        self._check_not_before: dict[str, float] = {}
        self._unwanted: dict[str, str] = {}
        """why volumes are to be discarded, until they are"""
        self._plain_until = 0.0
        self._counting = threading.Lock()
        self.sent_bytes = 0
        """Bytes that the gateway has acknowledged since the start."""
        self.body_bytes = 0
        """What they came to in the bodies of requests, where most are compressed."""
        self.errors = 0
        """Uploads since the start that failed in a way nobody foresaw."""

    def wake(self) -> None:
        """Look again for what is waiting."""
        self._wake.set()

    def try_now(self) -> None:
        """The way home seems to be there again: try the gateway at once, however long it could not be reached."""
        self._gateway_backoff.succeeded()
        self._gateway_not_before = 0.0
        self._wake.set()

    def _wake_soon(self) -> None:
        """The same from a thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Send until cancelled. A request under way ends within its timeouts."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    held_now = await asyncio.to_thread(self._sendable)
                    self._forget_all_but({held.entry.volume_id for held in held_now})
                    for held in self._lanes.take(self._due(held_now)):
                        group.create_task(self._carry(held))
                    waits = (seconds for held in held_now if (seconds := self._due_in(held)) > 0)
                    await self._pause(min(waits, default=None))
        finally:
            self._stopping.set()

    def _sendable(self) -> list[Held]:
        """The volumes to send or to ask about, oldest first, each with its true size: the lanes go by it."""
        measure_spooled(self._table)
        ahead = (held for held in self._table.live() if wants_ahead(held.entry))
        kept = self._table.kept()
        for held in kept:
            if held.entry.volume_id not in self._check_not_before:
                self._check_later(held)
        return [*self._table.waiting(), *ahead, *kept]

    def _due(self, held_now: list[Held]) -> list[Held]:
        """Those whose time has come, the first before others."""
        now = time.monotonic()
        due = [held for held in held_now if self._due_in(held) <= 0]
        for held in due:
            self._waiting_since.setdefault(held.entry.volume_id, now)
        return in_order(due, {volume_id: now - since for volume_id, since in self._waiting_since.items()})

    async def _carry(self, held: Held) -> None:
        """Send one volume as far as it goes now, in its lane."""
        began = time.monotonic()
        self._waiting_since.pop(held.entry.volume_id, None)
        try:
            await asyncio.to_thread(self._step_for(held.state), held)
        except Unreachable as error:
            # What several lanes find out at once is one failure.
            if began >= self._gateway_not_before:
                seconds = self._gateway_backoff.failed()
                self._gateway_not_before = time.monotonic() + seconds
                _log.warning("results can't be sent now, trying again in %.1f s: %s", seconds, error)
        else:
            self._gateway_backoff.succeeded()
        finally:
            self._lanes.leave(held)
            self._wake.set()

    def _step_for(self, state: VolumeState) -> Callable[[Held], None]:
        match state:
            case VolumeState.LIVE:
                return self._send_ahead
            case VolumeState.DONE:
                return self._check
            case _:
                return self._send

    def _due_in(self, held: Held) -> float:
        match held.state:
            case VolumeState.LIVE:
                waits = self._ahead_not_before
            case VolumeState.DONE:
                waits = self._check_not_before
            case _:
                waits = self._not_before
        return max(self._gateway_not_before, waits.get(held.entry.volume_id, 0.0)) - time.monotonic()

    def _forget_all_but(self, volume_ids: set[str]) -> None:
        for known in (
            self._not_before,
            self._ahead_not_before,
            self._check_not_before,
            self._backoffs,
            self._check_backoffs,
            self._waiting_since,
            self._unwanted,
        ):
            for volume_id in known.keys() - volume_ids:
                del known[volume_id]
        self._ahead.forget_all_but(volume_ids)

    async def _pause(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _send(self, held: Held) -> None:
        """Send one volume as far as it goes now. Raises `Unreachable`: the gateway is to be left alone for a while."""
        volume_id, pod = held.entry.volume_id, f"{held.entry.namespace}/{held.entry.pod_name}"
        try:
            self._send_or_discard(held)
        except Refused as answer:
            _log.error("results of pod %s are refused and kept in the spool: %s", pod, answer)
            self._table.note_failed(held, str(answer))
            self._not_before[volume_id] = time.monotonic() + REFUSED_AGAIN_SECONDS
        except (TooEarly, Conflict, PlanOutdated, Deferred, OSError) as problem:
            if isinstance(problem, Deferred):
                self._table.note_waiting(held, str(problem))
            seconds = self._backoffs.setdefault(volume_id, Backoff(0.5, 30)).failed()
            _log.info("results of pod %s wait %.1f s more: %s", pod, seconds, problem)
            self._not_before[volume_id] = time.monotonic() + seconds
        except (Unreachable, Stopping):
            raise
        except Exception:  # the edge: one volume's trouble must cost neither the others nor the beats
            with self._counting:
                self.errors += 1
            _log.exception("results of pod %s can't be sent, trying again in %.0f s", pod, FAILED_AGAIN_SECONDS)
            self._not_before[volume_id] = time.monotonic() + FAILED_AGAIN_SECONDS

    def _send_or_discard(self, held: Held) -> None:
        """Send one volume, or discard what is not wanted. Raises what `_send` tells apart, `OSError` among it."""
        volume_id, pod = held.entry.volume_id, f"{held.entry.namespace}/{held.entry.pod_name}"
        if volume_id not in self._unwanted:
            try:
                self._send_all(held)
            except Unwanted as answer:
                _log.info("results of pod %s are no longer wanted: %s", pod, answer)
                self._unwanted[volume_id] = str(answer)[:1024]
            except Refused as answer:
                if not held.entry.logs_only:
                    raise
                _log.warning("logs of pod %s are refused and discarded: %s", pod, answer)
                self._unwanted[volume_id] = str(answer)[:1024]
        message = self._unwanted.get(volume_id)
        if message is None:
            return
        try:
            self._table.finish(held, Finish(state=VolumeState.DISCARDED, bytes_=held.bytes_, message=message))
        finally:  # should the disk be too full for the journal, this makes room for the next try
            self._table.spool.sweep()
        self._unwanted.pop(volume_id, None)

    def _send_all(self, held: Held) -> None:
        try:
            self._send_plan(held, self._said(held))
        except (Conflict, PlanOutdated) as problem:
            _log.warning("the files of pod %s are read again: %s", held.entry.pod_name, problem)
            # A gateway from before compression takes a packed body for the content, and finds it damaged at the end.
            self._plain_until = time.monotonic() + PLAIN_SECONDS
            self._table.spool.drop_plan(held.entry.volume_id)
            self._send_plan(held, self._said(held))

    def _said(self, held: Held) -> tuple[UploadPlan, deque[BlobStatus]]:
        """The volume's plan and what the gateway misses of it.

        Very many files take long to read, and their plan may wait for its turn at the gateway: others go meanwhile.
        """
        if held.entry.asked.max_files <= MANY_FILES:
            return self._plan_and_say(held)
        with self._lanes.aside(held):
            self._wake_soon()
            return self._plan_and_say(held)

    def _plan_and_say(self, held: Held) -> tuple[UploadPlan, deque[BlobStatus]]:
        plan = self._table.spool.plan(held.entry.volume_id) or self._make_plan(held)
        return plan, deque(self._gateway.put_plan(held.entry.asked.job_uid, held.entry.pod_uid, plan).missing)

    def _send_ahead(self, held: Held) -> None:
        """Send what a running app has finished, and complete nothing. Raises `Unreachable`.

        The volume keeps its lane meanwhile, so the plan of the whole, once the pod has ended, always comes later.
        """
        volume_id, pod = held.entry.volume_id, f"{held.entry.namespace}/{held.entry.pod_name}"
        seconds = AHEAD_SECONDS
        turn_ends_at = time.monotonic() + TURN_SECONDS

        def check() -> None:
            self._check_current(held)
            if self._lanes.results_wait and time.monotonic() >= turn_ends_at:
                raise GivesWay("results of an ended pod wait for the lane")

        try:
            plan = self._ahead.plan(held.entry, check)
            if plan is not None:
                sent = self._send_finished(held, plan, check)
                if self._ahead.arrived(held.entry, plan) or sent:
                    self._table.note_file_home(volume_id)
        except GivesWay as problem:
            _log.info("finished files of pod %s go on later: %s", pod, problem)
            seconds = 0.0
        except Refused as answer:
            _log.warning("finished files of pod %s are not taken before it ends: %s", pod, answer)
            seconds = REFUSED_AGAIN_SECONDS
        except (TooEarly, Unwanted, Conflict, PlanOutdated, Ended, Deferred, OSError) as problem:
            _log.info("finished files of pod %s are sent later: %s", pod, problem)
        except (Unreachable, Stopping):
            raise
        except Exception:  # the edge, as in `_send`
            with self._counting:
                self.errors += 1
            _log.exception("finished files of pod %s can't be sent, trying again in %.0f s", pod, FAILED_AGAIN_SECONDS)
            seconds = FAILED_AGAIN_SECONDS
        self._ahead_not_before[volume_id] = time.monotonic() + seconds

    def _send_finished(self, held: Held, plan: UploadPlan, check: Callable[[], None]) -> bool:
        """Send what the gateway misses of `plan`. Returns whether that was anything."""
        files = {file.sha256: file for file in plan.files}
        missing = self._gateway.put_plan(held.entry.asked.job_uid, held.entry.pod_uid, plan).missing
        for blob in missing:
            if blob.sha256 not in files:
                raise Conflict(f"the gateway asks for blobs that are not in the plan of pod {held.entry.pod_name}")
            for _ in self._send_blob(held, Path(held.entry.target), files[blob.sha256], blob.offset):
                check()
        return bool(missing)

    def _check(self, held: Held) -> None:
        """Ask what became of an acknowledged volume: its copy may go, or must be sent again. Raises `Unreachable`."""
        pod = f"{held.entry.namespace}/{held.entry.pod_name}"
        self._check_later(held)
        try:
            self._drop_or_send_again(held)
        except (Refused, Unwanted, Conflict, Deferred, OSError) as problem:
            _log.info("whether the results of pod %s are settled is asked again: %s", pod, problem)
        except (Unreachable, Stopping):
            raise
        except Exception:  # the edge, as in `_send`
            with self._counting:
                self.errors += 1
            _log.exception("whether the results of pod %s are settled can't be asked", pod)
        self._table.spool.sweep()

    def _drop_or_send_again(self, held: Held) -> None:
        """Do what the gateway's answer means for the copy. Raises what `_check` tells apart, `OSError` among it."""
        try:
            settled = self._gateway.status(held.entry.asked.job_uid, held.entry.pod_uid).settled
        except TooEarly as answer:
            pod = f"{held.entry.namespace}/{held.entry.pod_name}"
            _log.warning(
                "the gateway does not have the results of pod %s any more, sending them again: %s", pod, answer
            )
            self._table.send_again(held)
            return
        if settled:
            self._table.drop_copy(held)

    def _check_later(self, held: Held) -> None:
        backoff = self._check_backoffs.setdefault(
            held.entry.volume_id, Backoff(FIRST_CHECK_SECONDS, MOST_CHECK_SECONDS)
        )
        self._check_not_before[held.entry.volume_id] = time.monotonic() + backoff.failed()

    def _check_current(self, held: Held) -> None:
        self._check_stopping()
        if not self._table.is_current(held):
            raise Ended("the pod has ended")

    def _make_plan(self, held: Held) -> UploadPlan:
        entry = held.entry
        collected = collect(self._table.spool.files(entry.volume_id), entry.asked, self._check_stopping)
        plan = UploadPlan(
            namespace=entry.namespace,
            job=entry.asked.job,
            attempt=entry.asked.attempt,
            pod_name=entry.pod_name,
            files=collected.files,
            logs=collect_logs(self._table.spool.logs(entry.volume_id), self._check_stopping),
            refused=collected.refused,
            refused_count=collected.refused_count,
            skipped=collected.skipped,
            logs_only=entry.logs_only,
        )
        try:
            self._table.spool.keep_plan(entry.volume_id, plan)
        except OSError as error:
            # A full disk must not keep the results that fill it from leaving.
            _log.warning("the plan of pod %s can't be kept, a restart reads its files again: %s", entry.pod_name, error)
        return plan

    def _send_plan(self, held: Held, said: tuple[UploadPlan, deque[BlobStatus]]) -> None:
        plan, missing = said
        sources = {file.sha256: file for file in (*plan.logs, *plan.files)}
        logs = {file.sha256 for file in plan.logs if sources[file.sha256] is file}
        brings_files = any(blob.sha256 not in logs for blob in missing)
        names = len(plan.files) + len(plan.logs)
        # A plan may have 100,000 files: what is seldom needed is not built for all of them.
        copies = Counter(file.sha256 for file in (*plan.files, *plan.logs)) if names > len(sources) else Counter[str]()
        if any(blob.sha256 not in sources for blob in missing):
            raise Conflict(f"the gateway asks for blobs that are not in the plan of pod {held.entry.pod_name}")
        total = sum(file.bytes_ for file in (*plan.files, *plan.logs))
        sent = total - sum((sources[b.sha256].bytes_ - b.offset) * (copies[b.sha256] or 1) for b in missing)
        if not self._table.note_sending(held, sent):
            return
        while missing:
            blob = missing.popleft()  # what has been sent takes no memory any more
            spool, volume_id = self._table.spool, held.entry.volume_id
            root = spool.logs(volume_id) if blob.sha256 in logs else spool.files(volume_id)
            at = blob.offset
            for offset in self._send_blob(held, root, sources[blob.sha256], at):
                sent += (offset - at) * (copies[blob.sha256] or 1)
                at = offset
                if not self._table.note_sending(held, max(0, sent)):
                    return
        manifest = self._gateway.complete(held.entry.asked.job_uid, held.entry.pod_uid, plan)
        _log.info(
            "results of pod %s/%s are home: %d files, %d logs, %d bytes, %d refused, %d left out",
            held.entry.namespace,
            held.entry.pod_name,
            len(manifest.files),
            len(manifest.logs),
            total,
            plan.refused_count,
            plan.skipped,
        )
        if brings_files:
            self._table.note_file_home(held.entry.volume_id)
        self._table.finish(held, Finish(state=VolumeState.DONE, bytes_=total, kept=True))

    def _send_blob(self, held: Held, root: Path, file: PlannedFile, offset: int) -> Iterator[int]:
        """Send one file below `root` from `offset` on; yields the offset that the gateway holds after each chunk."""
        sha256, size = file.sha256, file.bytes_
        try:
            descriptor = open_below(root, file.name)
        except OSError as error:
            raise PlanOutdated(f"file {file.name!r} of the plan can't be opened: {error}") from error
        try:
            stalls = 0
            while offset < size:
                blob = self._send_chunk(held, descriptor, sha256, offset, min(CHUNK_BYTES, size - offset))
                stalls = stalls + 1 if blob.offset <= offset else 0
                if stalls > MOST_STALLS or blob.offset > size:
                    raise Unreachable(f"blob {sha256} of {size} bytes does not get on at the gateway, at {blob.offset}")
                with self._counting:
                    self.sent_bytes += max(0, blob.offset - offset)
                offset = blob.offset
                yield offset
        finally:
            os.close(descriptor)

    def _send_chunk(self, held: Held, descriptor: int, sha256: str, offset: int, length: int) -> BlobStatus:
        """Send a file's next bytes, compressed where that pays and the gateway takes it."""
        job_uid, pod_uid = held.entry.asked.job_uid, held.entry.pod_uid

        def read(offset: int, length: int) -> bytes:
            self._check_stopping()
            try:
                block = os.pread(descriptor, length, offset)
            except OSError as error:  # a bad sector: the next plan says so, and the rest goes home
                raise PlanOutdated(f"a file can't be read at byte {offset}: {error}") from error
            if not block:
                raise PlanOutdated(f"a file ends at {offset} bytes, before the plan says")
            return block

        packed = pack(read, offset, length) if time.monotonic() >= self._plain_until else None
        if packed is not None:
            try:
                blob = self._gateway.patch(
                    job_uid, pod_uid, sha256, offset, packed.body_bytes, packed.blocks, packed=True
                )
            except NotUnpacked as answer:
                _log.info("compressed uploads are not taken, sending plain ones for an hour: %s", answer)
                self._plain_until = time.monotonic() + PLAIN_SECONDS
            else:
                self._count_body(packed.body_bytes)
                return blob
        blob = self._gateway.patch(job_uid, pod_uid, sha256, offset, length, _blocks(read, offset, length))
        self._count_body(length)
        return blob

    def _count_body(self, bytes_: int) -> None:
        with self._counting:
            self.body_bytes += bytes_

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopping("the agent stops")


def _blocks(read: Callable[[int, int], bytes], offset: int, length: int) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        block = read(offset, min(BLOCK_BYTES, end - offset))
        offset += len(block)
        yield block
