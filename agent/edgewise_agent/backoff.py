"""How long to wait before trying again: longer each time, and never in step with the other devices of the fleet."""

import random
from typing import Final

_RANDOM: Final = random.SystemRandom()


class Backoff:
    """Waits that double from `first` to `most` seconds, each shortened by up to half at random."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def failed(self) -> float:
        """Count one more failure in a row and return the seconds to wait."""
        # The exponent is bounded because a device may be cut off for years.
        longest = min(self._most, self._first * 2 ** min(self._failures, 32))
        self._failures += 1
        return _RANDOM.uniform(longest / 2, longest)

    def succeeded(self) -> None:
        """Begin again with the shortest wait."""
        self._failures = 0
