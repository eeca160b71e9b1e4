"""A watch that silently stops: /healthz says so, and meanwhile nothing is stuck."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import pytest
from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

from tests.control.crash.arena import Arena
from tests.control.crash.operators import PATIENCE_SECONDS, RESYNC_SECONDS
from tests.control.crash.proxy import Question, Treatment
from tests.control.waiting import until


@dataclass(slots=True)
class Silencer(Treatment):
    """Holds back what the watches of one kind would tell, from when it is told to."""

    plural: str
    silent: bool = False

    async def event(self, question: Question, line: bytes) -> bytes:
        if self.silent and question.path.endswith(f"/{self.plural}"):
            await asyncio.Event().wait()
        return line


@pytest.mark.parametrize("plural", ["edgejobs", "pods"])
async def test_a_silent_watch_is_told_or_mended(arena: Arena, plural: str) -> None:
    """Our own kinds' watch is kopf's: /healthz fails. The pods' is our own, and is begun anew in time."""
    silencer, observer = Silencer(plural), arena.observer
    async with arena.operator("operator-1", silencer) as container:
        await arena.start("before", "plain", 0.1)
        await until(lambda: observer.phase("before") == "Succeeded", "the operator works")
        assert container.current is not None
        url = f"http://127.0.0.1:{container.current.http_port}/healthz"
        async with aiohttp.ClientSession() as session:

            async def health() -> tuple[int, str]:
                async with session.get(url) as answer:
                    return answer.status, await answer.text()

            assert await health() == (HTTPStatus.OK, "ok\n")
            silencer.silent = True
            await arena.start("meanwhile", "plain", 0.1)
            await until(lambda: observer.phase("meanwhile") == "Succeeded", "nothing is stuck", 30)
            if plural == "edgejobs":
                status, said = await _first_fault(health)
                assert status == HTTPStatus.SERVICE_UNAVAILABLE
                assert "the watch of edgejobs has stopped" in said
    arena.check()


async def _first_fault(health: Callable[[], Awaitable[tuple[int, str]]]) -> tuple[int, str]:
    """The first answer of /healthz that is not good, or the last one that was awaited."""
    asking = AsyncRetrying(
        retry=retry_if_result(lambda answer: answer[0] == HTTPStatus.OK),
        stop=stop_after_delay(3 * RESYNC_SECONDS + PATIENCE_SECONDS),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else (0, ""),
    )
    answer: tuple[int, str] = await asking(health)
    return answer
