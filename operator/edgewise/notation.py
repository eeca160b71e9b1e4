"""Lengths of time and amounts of a resource, as people and Kubernetes write them.

Owns their notation alone, and imports no models, so that the gateway can read both without them.
"""

from datetime import timedelta
from decimal import Decimal
from re import ASCII
from re import compile as pattern
from typing import Final

DURATION_PATTERN: Final = "([0-9]{1,5}d)?([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?"
_DURATION = pattern(DURATION_PATTERN, ASCII)

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_SUFFIX = "([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?"
QUANTITY_PATTERN: Final = f"{_NUMBER}{_SUFFIX}"
_QUANTITY = pattern(f"(?P<number>{_NUMBER})(?P<suffix>{_SUFFIX})", ASCII)


def parse_duration(text: str) -> timedelta:
    """Days, hours, minutes and seconds, such as 90s, 1h30m or 7d. Raises `ValueError` for anything else."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is no duration: write days, hours, minutes and seconds, such as 90s, 1h30m or 7d")
    days, hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def parse_quantity(text: str) -> Decimal:
    """The amount in base units (cores, bytes, counts), exact. Raises `ValueError` for anything else."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no amount: write a number, with a suffix such as m, k, M, Ki or Mi if you like")
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix in _BINARY:
        return number * (1 << _BINARY[suffix])
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix])
    return number.scaleb(int(suffix[1:]))
