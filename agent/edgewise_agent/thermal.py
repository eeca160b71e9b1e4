"""How hot the device is: the hottest of its thermal zones.

This module owns what counts as a believable reading. It never guesses: no believable zone means None, never 0 °C.
"""

from pathlib import Path
from typing import Final

LEAST_CELSIUS: Final = -40.0
MOST_CELSIUS: Final = 150.0
"""Silicon works between these; drivers of broken or absent sensors report values far outside."""


def hottest_celsius(host_root: Path) -> float | None:
    """The highest believable temperature of `{host_root}/sys/class/thermal/thermal_zone*/temp`, in °C.

    A zone that can't be read (many drivers answer EINVAL or ENODATA while their sensor is off), that is no number, or
    that is not believable is left out. Exactly 0 is what an unconnected sensor reports, so it is not believed either.
    """
    readings = (_celsius(zone) for zone in (host_root / "sys/class/thermal").glob("thermal_zone*/temp"))
    return max((celsius for celsius in readings if celsius is not None), default=None)


def _celsius(zone: Path) -> float | None:
    try:
        millidegrees = int(zone.read_bytes())
    except (OSError, ValueError):
        return None
    celsius = millidegrees / 1000
    return celsius if millidegrees != 0 and LEAST_CELSIUS <= celsius <= MOST_CELSIUS else None
