"""Who may change an upload or a job right now. Owns the locks; knows nothing of what they guard."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turn:
    """One request's time with an upload. It may be asked to end, because the agent has come back with another one."""

    def __init__(self) -> None:
        self._ended = False
        self._waiting: asyncio.Timeout | None = None

    def end(self) -> None:
        """Asks the holder to stop: `patience` raises `TimeoutError`, now or at its next use."""
        self._ended = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def patience(self, seconds: float) -> AsyncIterator[None]:
        """Waits inside the block for at most so long, and no longer than the turn: else `TimeoutError`."""
        if self._ended:
            raise TimeoutError
        async with asyncio.timeout(seconds) as timeout:
            self._waiting = timeout
            try:
                yield
            finally:
                self._waiting = None


class _Place:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.turn: Turn | None = None


class Turns:
    """One turn at a time for each key; keys that nobody uses cost nothing."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    @asynccontextmanager
    async def take(self, key: str) -> AsyncIterator[Turn]:
        """Asks the current holder to end, waits until it has, and holds the key for the block."""
        place = self._places.setdefault(key, _Place())
        place.users += 1
        try:
            if place.turn is not None:
                place.turn.end()
            async with place.lock:
                place.turn = Turn()
                try:
                    yield place.turn
                finally:
                    place.turn = None
        finally:
            place.users -= 1
            if place.users == 0:
                del self._places[key]
