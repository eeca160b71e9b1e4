"""A minute of seeded random faults of every kind between a working operator and its API server, one after the other."""

import asyncio
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from http import HTTPStatus
from typing import Final

from edgewise.kube.client import MERGE_PATCH, KubeClient
from edgewise_agent.wire import Verdict
from msgspec import json

from tests.control.crash.arena import Arena
from tests.control.crash.devices import Device
from tests.control.crash.operators import Operator
from tests.control.crash.proxy import Answer, Dropped, Question, Treatment, refusal
from tests.control.waiting import until
from tests.figures import Figures

SEED: Final = int(os.environ.get("EDGEWISE_SOAK_SEED", "1"))
SOAK_SECONDS: Final = float(os.environ.get("EDGEWISE_SOAK_SECONDS", "60"))
PHASE_SECONDS: Final = 4.0
STALL_SECONDS: Final = 6.0
JOB_EVERY_SECONDS: Final = 1.5
LEFT_OVER_SECONDS: Final = 60.0
BUSY: Final = {HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequests", HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable"}
BROKEN: Final = {HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError", HTTPStatus.GATEWAY_TIMEOUT: "Timeout"}

logger = logging.getLogger(__name__)


class Fault(StrEnum):
    """What goes wrong for a while."""

    CONFLICTS = auto()
    TOO_MANY_REQUESTS = auto()
    SERVER_ERRORS = auto()
    UNSEEN = auto()
    """done, but the answer is lost"""
    LOST = auto()
    """not done, and no answer"""
    STALE_WATCHES = auto()
    MISSED_EVENTS = auto()
    GONE = auto()
    STALL = auto()
    KILL = auto()


@dataclass(slots=True)
class Weather(Treatment):
    """Does whatever fault is in season, to every third request or event."""

    client: KubeClient
    rng: random.Random
    operator: Callable[[], Operator]
    season: Fault | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """set at the end of a season, for what waits for it"""
    done: Counter[Fault] = field(default_factory=Counter)

    def turn(self, season: Fault | None) -> None:
        """End one season and begin another."""
        self.ended.set()
        self.ended = asyncio.Event()
        self.season = season

    async def answer(self, question: Question, forward: Callable[[], Awaitable[Answer]]) -> Answer:
        season, struck = self.season, self.rng.random() < 1 / 3
        if season is Fault.STALL:
            self.done[Fault.STALL] += 1
            await self.ended.wait()
            return await forward()
        if season is None or not struck or (season in NEED_A_WRITE and not question.writes):
            return await forward()
        match season:
            case Fault.TOO_MANY_REQUESTS | Fault.SERVER_ERRORS:
                self.done[season] += 1
                return self._refusal(BUSY if season is Fault.TOO_MANY_REQUESTS else BROKEN)
            case Fault.CONFLICTS if "/edgejobs/" in question.path:
                self.done[season] += 1
                await self._touch(question.path.removesuffix("/status"))
            case Fault.UNSEEN:
                self.done[season] += 1
                await asyncio.shield(asyncio.ensure_future(forward()))
                raise Dropped
            case Fault.LOST:
                self.done[season] += 1
                raise Dropped
            case Fault.KILL if question.decides:
                self.done[season] += 1
                self.operator().send(signal.SIGKILL)
                raise Dropped
            case _:
                pass
        return await forward()

    async def event(self, question: Question, line: bytes) -> bytes:
        match self.season:
            case Fault.STALE_WATCHES:
                self.done[Fault.STALE_WATCHES] += 1
                await self.ended.wait()
            case Fault.MISSED_EVENTS if self.rng.random() < 1 / 3 and b'"BOOKMARK"' not in line:
                self.done[Fault.MISSED_EVENTS] += 1
                return b""
            case Fault.GONE if self.rng.random() < 1 / 3:
                self.done[Fault.GONE] += 1
                return (
                    json.encode({"type": "ERROR", "object": json.decode(refusal(HTTPStatus.GONE, "Expired").body)})
                    + b"\n"
                )
            case _:
                pass
        return line

    def _refusal(self, kinds: dict[HTTPStatus, str]) -> Answer:
        status = self.rng.choice(list(kinds))
        after = {"Retry-After": "1"} if status is HTTPStatus.TOO_MANY_REQUESTS else {}
        return refusal(status, kinds[status], **after)

    async def _touch(self, path: str) -> None:
        """Somebody else changes the object first: what the API server then says to the write is its own."""
        patch = {"metadata": {"annotations": {"test": str(self.rng.random())}}}
        await self.client.ask("PATCH", path, patch, content_type=MERGE_PATCH)


NEED_A_WRITE: Final = frozenset({Fault.CONFLICTS, Fault.UNSEEN, Fault.KILL})


@dataclass(slots=True)
class Work:
    """Jobs, one after the other: some fail once, some bring results."""

    arena: Arena
    rng: random.Random
    started: dict[str, int] = field(default_factory=dict)
    """how many attempts each job needs, by name"""

    async def run(self) -> None:
        """Start jobs until cancelled."""
        while True:
            name, fails = f"job-{len(self.started)}", self.rng.random() < 1 / 4
            codes = (3,) if fails else ()
            app, seconds = self.rng.choice(("plain", "files")), round(self.rng.uniform(0.1, 4), 1)
            await self.arena.start(name, app, seconds, *codes)
            self.started[name] = 1 + fails
            await asyncio.sleep(JOB_EVERY_SECONDS)


async def _cables(rng: random.Random, devices: list[Device]) -> None:
    """Pull one device's cable after the other, for longer than a job waits."""
    while True:
        device = rng.choice(devices)
        device.connected = False
        await asyncio.sleep(rng.uniform(3, 16))
        device.connected = True
        await asyncio.sleep(rng.uniform(1, 4))


async def test_a_minute_of_faults(arena: Arena, figures: Figures) -> None:
    """No job is lost, none has two attempts in reach at once, none is stuck when it is over."""
    print(f"EDGEWISE_SOAK_SEED={SEED}")
    rng = random.Random(SEED)  # noqa: S311
    weather = Weather(arena.client, rng, lambda: arena.starts[-1])
    work = Work(arena, rng)
    async with arena.operator("operator-1", weather) as container:
        pastimes = [
            asyncio.create_task(work.run()),
            asyncio.create_task(_cables(rng, list(arena.devices.devices.values()))),
        ]
        over_at = time.monotonic() + SOAK_SECONDS
        seasons: list[Fault] = []
        while time.monotonic() < over_at:
            if not seasons:
                seasons = rng.sample(list(Fault), len(Fault))
            season = seasons.pop()
            weather.turn(season)
            await asyncio.sleep(STALL_SECONDS if season is Fault.STALL else PHASE_SECONDS)
        weather.turn(None)
        for pastime in pastimes:
            pastime.cancel()
        await asyncio.gather(*pastimes, return_exceptions=True)
        for device in arena.devices.devices.values():
            device.connected = True
        ended_at = time.monotonic()

        def all_home() -> bool:
            succeeded = all(arena.observer.phase(name) == "Succeeded" for name in work.started)
            return succeeded and arena.devices.settled and not arena.observer.living()

        await until(all_home, "every job has succeeded", LEFT_OVER_SECONDS)
        took = time.monotonic() - ended_at
    arena.check()
    for name, attempts in work.started.items():
        outcomes = arena.observer.outcomes(name)
        # An attempt that exits with 3 is Failed, or its device was given up before anyone saw its end.
        assert "Succeeded" not in outcomes[: attempts - 1], f"{name}: {outcomes}"
        assert "Failed" not in outcomes[attempts - 1 :], f"{name}: {outcomes}"
        assert outcomes.count("Succeeded") == 1, f"{name}: {outcomes}"
    published = Counter(
        manifest for manifest, verdict in arena.devices.verdicts.items() if verdict is Verdict.PUBLISHED
    )
    homes = [job["status"]["results"]["podUID"] for job in arena.observer.jobs.values() if "results" in job["status"]]
    assert sorted(published) == sorted(homes)
    assert set(weather.done) == set(Fault), "every fault has struck"
    figures("soak: jobs, all of which succeeded", len(work.started))
    figures("soak: faults", sum(weather.done.values()))
    figures("soak: restarts of the operator", len(container.codes))
    figures("soak: end of the faults to the last job's end", took, LEFT_OVER_SECONDS, "s")
