"""Two operators at once: one acts, the other waits and takes over; one that hung does no harm when it goes on."""

import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from tests.control.crash.arena import Arena
from tests.control.crash.proxy import Answer, Question, Treatment
from tests.control.waiting import until
from tests.figures import Figures

TAKEN_OVER_WITHIN_SECONDS: Final = 15.0


@dataclass(slots=True)
class Diary(Treatment):
    """Lets all pass and notes when decisions were carried out."""

    decisions: list[float] = field(default_factory=list)

    async def answer(self, question: Question, forward: Callable[[], Awaitable[Answer]]) -> Answer:
        if question.decides:
            self.decisions.append(time.monotonic())
        return await forward()


async def test_the_second_takes_over_when_the_first_hangs(arena: Arena, figures: Figures) -> None:
    """To hang is to die, and then to come back from the dead: the worse of the two."""
    first, second, observer = Diary(), Diary(), arena.observer
    async with arena.operator("operator-1", first) as leader:
        await arena.start("before", "plain", 0.1)
        await until(lambda: observer.phase("before") == "Succeeded", "the first acts")
        async with arena.operator("operator-2", second):
            await arena.start("beside", "plain", 0.1)
            await until(lambda: observer.phase("beside") == "Succeeded", "the first still acts")
            assert not second.decisions, "the second waits"
            assert leader.current is not None
            leader.current.send(signal.SIGSTOP)
            died_at, acted = time.monotonic(), len(first.decisions)
            await arena.start("after", "plain", 0.1)
            await until(lambda: second.decisions, "the second acts")
            took = second.decisions[0] - died_at
            await until(lambda: observer.phase("after") == "Succeeded", "the second carries it through")
            leader.current.send(signal.SIGCONT)
            log = leader.current.log
            await until(lambda: "starts anew" in log.read_text(), "the first sees that it leads no more")
            await arena.start("later", "plain", 0.1)
            await until(lambda: observer.phase("later") == "Succeeded", "the second goes on")
            assert len(first.decisions) == acted, "one that is back from the dead decides nothing"
        await arena.start("last", "plain", 0.1)
        await until(lambda: observer.phase("last") == "Succeeded", "the first leads again", 40)
        assert not leader.codes, "its container never ended: kubelet would start it ever later"
    arena.check()
    figures("death of the first operator to the second's first decision", took, TAKEN_OVER_WITHIN_SECONDS, "s")
    assert took <= TAKEN_OVER_WITHIN_SECONDS
