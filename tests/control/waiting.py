"""Waiting for a condition with a deadline, in tests whose own tasks must go on meanwhile."""

from collections.abc import Callable

import pytest
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

SOON = 20.0


async def until(condition: Callable[[], object], what: str, seconds: float = SOON) -> None:
    """Wait until `condition` holds. Fails with `what` after a while."""
    waiting = AsyncRetrying(
        retry=retry_if_result(lambda held: not held), stop=stop_after_delay(seconds), wait=wait_fixed(0.02)
    )

    async def look() -> object:
        return condition()

    try:
        await waiting(look)
    except RetryError:
        pytest.fail(f"not within {seconds} s: {what}")
