"""Telling the operator of finished manifests until its verdict is final, over restarts of either side.

Owns when to ask again. The verdict is the operator's; what it means on the disk is the store's.
"""

import asyncio
import io
import logging
import random
import ssl
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
from edgewise_agent.wire import ManifestVerdict, Problem, Verdict
from msgspec import DecodeError, json

from edgewise.gateway.metrics import Metrics
from edgewise.gateway.records import StoreDamaged
from edgewise.gateway.volume import Volume

logger = logging.getLogger(__name__)

CALL_SECONDS = 15.0
FIRST_DELAY_SECONDS = 0.5
LAST_DELAY_SECONDS = 60.0
READER_SECONDS = 5.0
"""How long a reader waits at most for the operator's answer."""
AT_ONCE = 8

_Key = tuple[str, str]


class NoVerdict(Exception):
    """The operator could not be asked, or did not answer with a verdict. Asking again later is right."""


class Announcer:
    """The manifests without a final verdict, each with the time to ask next."""

    def __init__(self, volume: Volume, operator_url: str, ca_file: Path, token_file: Path, metrics: Metrics) -> None:
        """`token_file` and `ca_file` are read anew when they change; either may appear after the start."""
        self._volume = volume
        self._url = f"{operator_url}/v1/manifests"
        self._ca_file = ca_file
        self._token_file = token_file
        self._metrics = metrics
        self._due: dict[_Key, float] = {}
        self._asked: dict[_Key, int] = {}
        self._wake = asyncio.Event()
        self._answered = asyncio.Condition()
        self._trust: tuple[object, ssl.SSLContext] | None = None

    def announce(self, job_uid: str, pod_uid: str) -> None:
        """Asks about this manifest now. Nothing is lost if the process ends before: the store keeps a note of it."""
        self._due[job_uid, pod_uid] = 0.0
        self._asked[job_uid, pod_uid] = 0
        self._wake.set()

    async def ask_now(self, job_uid: str) -> None:
        """Asks about the job's manifests at once, for a reader; returns when the operator has answered or is too slow.

        The job's status may tell of its results a moment before the gateway is told the verdict: a script that has
        waited for the status and reads at once must not be told that there is nothing.
        """
        keys = {key for key in self._due if key[0] == job_uid}
        if not keys:
            return
        for key in keys:
            if self._due[key] >= 0:  # else it is asked about already
                self._due[key] = -asyncio.get_running_loop().time()  # due, and unlike any time of a question under way
        self._wake.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(READER_SECONDS), self._answered:
                await self._answered.wait_for(lambda: all(self._due.get(key, 1.0) > 0 for key in keys))

    async def run(self) -> None:
        """Asks until it is cancelled, first about all that the last run of the gateway left."""
        for key in await self._volume.pending():
            self.announce(*key)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)) as session:
            while True:
                self._wake.clear()
                self._metrics.pending.set(len(self._due))
                now = asyncio.get_running_loop().time()
                due = sorted((key for key, when in self._due.items() if when <= now), key=self._due.__getitem__)
                if not due:
                    await self._sleep(min(self._due.values(), default=now + LAST_DELAY_SECONDS))
                    continue
                async with asyncio.TaskGroup() as group:
                    for key in due[:AT_ONCE]:
                        group.create_task(self._settle(session, key))
                async with self._answered:
                    self._answered.notify_all()

    async def _sleep(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _settle(self, session: aiohttp.ClientSession, key: _Key) -> None:
        """One question about one manifest, and what follows from the answer."""
        before = self._due[key]
        try:
            verdict = await self._ask(session, key)
            if verdict not in (None, Verdict.PENDING):
                await self._volume.settle(*key, verdict)
                logger.info("job %s, pod %s: the operator says %s", *key, verdict.value)
        except (NoVerdict, StoreDamaged, OSError) as error:  # VolumeFull is an OSError
            self._metrics.verdicts.labels("Failed").inc()
            logger.warning("job %s, pod %s: no verdict yet, asking again: %s", *key, error)
            verdict = Verdict.PENDING
        if verdict is Verdict.PENDING:
            if self._due[key] == before:
                self._asked[key] += 1
                delay = min(LAST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(self._asked[key] - 1, 16))
                jitter = random.uniform(0.75, 1)  # noqa: S311 - spreads load, guards nothing
                self._due[key] = asyncio.get_running_loop().time() + delay * jitter
        else:
            del self._due[key], self._asked[key]

    async def _ask(self, session: aiohttp.ClientSession, key: _Key) -> Verdict | None:
        """The operator's verdict; None if the manifest is not there any more."""
        manifest = await self._volume.manifest_bytes(*key)
        if manifest is None:
            return None
        try:
            token = self._token_file.read_text().strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            async with session.post(
                self._url, data=io.BytesIO(manifest), headers=headers, ssl=self._trusted()
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError and ssl.SSLError are OSErrors
            raise NoVerdict(f"{self._url}: {str(error) or type(error).__name__}") from error
        try:
            if response.status != HTTPStatus.OK:
                raise NoVerdict(f"{self._url}: {response.status} {json.decode(content, type=Problem).detail}")
            verdict = json.decode(content, type=ManifestVerdict).verdict
        except (DecodeError, UnicodeDecodeError) as error:
            raise NoVerdict(f"{self._url}: {response.status} with a body that says nothing ({error})") from error
        self._metrics.verdicts.labels(verdict.value).inc()
        return verdict

    def _trusted(self) -> ssl.SSLContext:
        status = self._ca_file.stat()
        mark = (status.st_mtime_ns, status.st_ino, status.st_size)
        if self._trust is None or self._trust[0] != mark:
            self._trust = (mark, ssl.create_default_context(cafile=self._ca_file))
        return self._trust[1]
