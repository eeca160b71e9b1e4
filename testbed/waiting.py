"""Waits for a condition with a deadline; nothing here sleeps for a fixed time."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_exception, retry_if_result, stop_after_delay, wait_fixed

from testbed.errors import FleetError, Hopeless

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    what: str,
    *,
    seconds: float,
    every_seconds: float = 0.2,
    retry_on: tuple[type[BaseException], ...] = (FleetError, OSError),
) -> T:
    """Calls `condition` until it answers with something true, and returns that.

    Errors in `retry_on` count as 'not yet'.

    Raises:
        FleetError: the deadline passed; says `what` was waited for and the last error.
    """
    attempts = Retrying(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(every_seconds),
        retry=retry_if_result(lambda answer: not answer)
        | retry_if_exception(lambda error: isinstance(error, retry_on) and not isinstance(error, Hopeless)),
    )
    try:
        answer: T = attempts(condition)
    except RetryError as error:
        last = error.last_attempt.exception() if error.last_attempt.failed else None
        raise FleetError(f"{what}: not within {seconds:g} s" + (f" ({last})" if last else "")) from last
    return answer
