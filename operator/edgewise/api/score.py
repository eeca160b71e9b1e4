"""How good a place for work a device is, as a number and its factors.

Owns their shape; domain/score computes them.
"""

from typing import Annotated

from pydantic import Field

from edgewise.api.schema import Model

Score = Annotated[float, Field(ge=0, le=1_000_000)]
"""load × performance × thermal; the highest wins, 0 gets no work."""


class Factors(Model):
    """What a score is made of: their product is the score."""

    load: Score
    """From free CPU and available memory; 0 to 25."""
    performance: Score
    """From the processor's benchmark and free memory."""
    thermal: Annotated[float, Field(ge=0, le=1)]
    """1 up to the throttle temperature, 0 from the critical one."""
