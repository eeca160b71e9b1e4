"""Waits for what the API shows, with a deadline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bench.errors import BenchError

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T]], what: str, *, seconds: float, every_seconds: float = 0.3) -> T:
    """Call `look` until it answers with something true, and return that. Raises `BenchError` after `seconds`."""
    attempts = AsyncRetrying(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every_seconds),
        retry=retry_if_result(lambda answer: not answer),
    )
    try:
        answer: T = await attempts(look)
    except RetryError:
        raise BenchError(f"{what}: not within {seconds:g} s") from None
    return answer
