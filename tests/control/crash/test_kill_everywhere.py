"""SIGKILL of the operator before and after every write that it makes: no job lost, none twice, none stuck."""

import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from edgewise_agent.wire import Verdict
from msgspec import json

from tests.control.crash.arena import Arena
from tests.control.crash.operators import Operator
from tests.control.crash.proxy import Answer, Dropped, Question, Treatment
from tests.control.waiting import until
from tests.figures import Figures

BEFORE: Final = "before"
AFTER: Final = "after"
RESUMED_WITHIN_SECONDS: Final = 10.0
LONG: Final = 300.0


@dataclass(slots=True)
class Killer(Treatment):
    """Kills the operator at each write that it has not been killed at yet: first before it, next time after it."""

    operator: Callable[[], Operator]
    suffered: set[tuple[str, str]] = field(default_factory=set)
    resumed: list[float] = field(default_factory=list)
    """seconds from a restart to the first decision, with one that was cut off waiting to be made again"""
    _killed: Operator | None = None
    _owing: bool = False

    async def answer(self, question: Question, forward: Callable[[], Awaitable[Answer]]) -> Answer:
        operator = self.operator()
        if operator is self._killed:
            raise Dropped
        if question.decides and self._owing:
            self.resumed.append(time.monotonic() - operator.released_at + operator.loading_seconds)
            self._owing = False
        if not question.writes:
            return await forward()
        write = name_of(question)
        if (BEFORE, write) not in self.suffered:
            self._kill(operator, BEFORE, write)
            self._owing = self._owing or (question.decides and not _needs_patience(question))
            raise Dropped
        if (AFTER, write) not in self.suffered:
            self.suffered.add((AFTER, write))
            self._killed = operator
            await forward()
            self._kill(operator, AFTER, write)
            raise Dropped
        return await forward()

    def _kill(self, operator: Operator, moment: str, write: str) -> None:
        self.suffered.add((moment, write))
        self._killed = operator
        operator.send(signal.SIGKILL)


def _needs_patience(question: Question) -> bool:
    """Whether it gives a device up: a new leader has to miss that device for as long again."""
    return b'"Lost"' in question.body


def name_of(question: Question) -> str:
    """What a write is about, the same for each repetition of it."""
    body = json.decode(question.body) if question.body else {}
    if question.path.endswith("/events"):
        return f"event {body['reason']}"
    if "/edgejobs/" in question.path:
        status = body["status"]
        outcomes = [one["outcome"] for one in status.get("attempts", ())]
        return f"{question.path} {status.get('phase', '')} {outcomes}"
    if "/edgenodes" in question.path:
        return f"{question.method} edgenode"
    if question.method == "POST":
        return f"{question.method} {question.path}/{body['metadata']['name']}"
    labels = body.get("metadata", {}).get("labels", {})
    return f"{question.method} {question.path} {labels or ''}".rstrip()


async def test_killed_before_and_after_every_write(arena: Arena, figures: Figures) -> None:
    """Jobs that succeed, fail once, bring results, are deleted as they run, and lose their device to get it back."""
    killer, observer, devices = Killer(lambda: arena.starts[-1]), arena.observer, arena.devices.devices
    quick = ("again", "results")
    async with arena.operator("operator-1", killer):
        await arena.start("moved", "files", 45)
        await until(lambda: observer.phase("moved") == "Running", "the job that will be moved runs", LONG)
        lost = devices[observer.jobs["moved"]["status"]["node"]]
        lost.connected = False
        await arena.start("doomed", "plain", 600)
        await arena.start("again", "plain", 0.3, 3)
        await arena.start("results", "files", 0.5)
        await until(lambda: observer.phase("doomed") == "Running", "the job that will be deleted runs", LONG)
        await arena.delete("doomed")
        await until(lambda: observer.outcomes("moved") == ["Lost", "Running"], "the job is moved", LONG)
        lost.connected = True
        ends = (*quick, "moved")
        await until(lambda: {observer.phase(name) for name in ends} == {"Succeeded"}, "all jobs succeed", LONG)
        await until(lambda: arena.devices.settled and not observer.living(), "nothing is left running", LONG)
        await arena.start("told", "plain", 0.1)
        await until(lambda: observer.phase("told") == "Succeeded", "work goes on", LONG)
    arena.check()
    assert {name: observer.outcomes(name) for name in quick} == {
        "again": ["Failed", "Succeeded"],
        "results": ["Succeeded"],
    }
    assert observer.outcomes("moved").count("Succeeded") == 1, "whichever attempt it was"
    published = [uid for uid, verdict in arena.devices.verdicts.items() if verdict is Verdict.PUBLISHED]
    assert sorted(published) == sorted(observer.results(name) for name in ("moved", "results"))
    assert {moment for moment, _ in killer.suffered} == {BEFORE, AFTER}
    longest = max(killer.resumed)
    figures("kills of the operator, one before and one after each write", len(killer.suffered))
    figures("a restart to the next decision, at the longest", longest, RESUMED_WITHIN_SECONDS, "s")
    assert longest <= RESUMED_WITHIN_SECONDS
