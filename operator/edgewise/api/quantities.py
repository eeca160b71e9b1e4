"""Amounts of a resource, as Kubernetes writes them: 100m of CPU, 128Mi of memory.

Owns their notation and what a pod asks for; never what a device has.
"""

from collections.abc import Mapping
from decimal import Decimal
from re import ASCII
from re import compile as pattern
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from edgewise.api.schema import Model, Rule, rules

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_NUMBER = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_SUFFIX = "([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?"
_PARTS = pattern(f"(?P<number>{_NUMBER})(?P<suffix>{_SUFFIX})", ASCII)
_PATTERN = f"^{_NUMBER}{_SUFFIX}$"


def _as_text(amount: object) -> object:
    return str(amount) if isinstance(amount, int) and not isinstance(amount, bool) else amount


QUANTITY_SCHEMA: Final = {"x-kubernetes-int-or-string": True, "minimum": 0, "maxLength": 32, "pattern": _PATTERN}

Quantity = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(max_length=QUANTITY_SCHEMA["maxLength"], pattern=_PATTERN),
    WithJsonSchema(QUANTITY_SCHEMA),
]
"""An amount that is not negative: a whole number, or text with a suffix such as m, k, M, Ki or Mi."""


def parse_quantity(text: str) -> Decimal:
    """The amount in base units (cores, bytes, counts), exact. Raises `ValueError` for anything else."""
    match = _PARTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no amount: write a number, with a suffix such as m, k, M, Ki or Mi if you like")
    number, suffix = Decimal(match["number"]), match["suffix"]
    if suffix in _BINARY:
        return number * (1 << _BINARY[suffix])
    if suffix in _DECIMAL:
        return number.scaleb(_DECIMAL[suffix])
    return number.scaleb(int(suffix[1:]))


Amounts = Annotated[Mapping[str, Quantity], Field(max_length=16)]
"""Amounts by the name of their resource: cpu, memory, ephemeral-storage, or an extended one."""

_REQUEST_FITS_LIMIT = """
!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits)
|| quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)
"""


class Resources(Model):
    """What the app's container asks of a device, as in a pod."""

    model_config = rules(
        Rule(" ".join(_REQUEST_FITS_LIMIT.split()), "a request must not exceed the limit of the same resource")
    )

    requests: Amounts = Field(default_factory=dict)
    """What a device must have free for the job to be placed there."""
    limits: Amounts = Field(default_factory=dict)
    """What the container can never use more of."""
