"""Amounts of a resource, as fields of the API: 100m of CPU, 128Mi of memory.

Owns what a pod asks for; never what a device has. edgewise/notation.py owns how an amount is written.
"""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from edgewise.api.schema import Model, Rule, rules
from edgewise.notation import QUANTITY_PATTERN

_PATTERN = f"^{QUANTITY_PATTERN}$"


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
