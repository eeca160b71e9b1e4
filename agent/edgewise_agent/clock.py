"""The agent's clock. It owns nothing but the offset that tests of wrong clocks set.

Everything that leaves the device carries this clock's time; ages within the agent are monotonic and never use it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Clock:
    """The device's wall clock, moved by `offset`."""

    offset: timedelta = timedelta(0)

    def now(self) -> datetime:
        """The time as the device believes it to be, aware, in UTC."""
        return datetime.now(UTC) + self.offset
