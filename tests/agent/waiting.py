"""Waiting for a condition, with a deadline instead of a fixed sleep."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], what: str, seconds: float = 15) -> None:
    """Return as soon as `condition` holds; fail saying `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}"
        await asyncio.sleep(0.01)
