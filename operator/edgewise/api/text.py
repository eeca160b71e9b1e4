"""The strings of the API: names, paths, reasons, messages and times, each with its pattern and bounds.

Owns how they are written; never what they refer to.
"""

from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator, Field, PlainSerializer

from edgewise.notation import DURATION_PATTERN

MESSAGE_LENGTH: Final = 4096
"""The most characters a message in a status may have; longer ones are cut when the model is made."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"

# A path's part may begin with dots, but must not be `.` or `..`; a colon separates mount options in some runtimes.
_PATH_PART = r"\.{0,2}[^/.:\x00-\x1f][^/:\x00-\x1f]*"

DnsLabel = Annotated[str, Field(max_length=63, pattern=f"^{_LABEL}$")]
"""A short name: lower case letters, digits and `-`."""

ObjectName = Annotated[str, Field(max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
"""The name of an object of Kubernetes."""

OptionalObjectName = Annotated[str, Field(max_length=253, pattern=rf"^({_LABEL}(\.{_LABEL})*)?$")]
"""The name of an object of Kubernetes, or empty."""

LabelKey = Annotated[str, Field(max_length=317, pattern=f"^{_QUALIFIED}$")]
"""The key of a label, with or without a prefix."""

LabelValue = Annotated[str, Field(max_length=63, pattern="^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$")]
"""The value of a label; may be empty."""

DataKey = Annotated[str, Field(max_length=253, pattern="^[-._a-zA-Z0-9]+$")]
"""A key of a ConfigMap or a Secret."""

AbsolutePath = Annotated[str, Field(max_length=512, pattern=f"^(/{_PATH_PART})+$")]
"""An absolute path below `/`, without `.`, `..`, empty parts, a trailing `/` or `:`."""

RelativePath = Annotated[str, Field(max_length=512, pattern=f"^{_PATH_PART}(/{_PATH_PART})*$")]
"""A relative path without `.`, `..`, empty parts, a trailing `/` or `:`."""

UID = Annotated[str, Field(max_length=64, pattern="^[-a-zA-Z0-9]+$")]
"""The UID of an object."""

Sha256 = Annotated[str, Field(max_length=64, pattern="^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower case hexadecimal."""

Reason = Annotated[str, Field(max_length=64, pattern="^([A-Z][A-Za-z0-9]*)?$")]
"""Why, in one CamelCase word for programs; may be empty."""


def _cut(message: object) -> object:
    if isinstance(message, str) and len(message) > MESSAGE_LENGTH:
        return f"{message[: MESSAGE_LENGTH - 1]}…"
    return message


Message = Annotated[str, BeforeValidator(_cut), Field(max_length=MESSAGE_LENGTH)]
"""Why, in a sentence for people; cut (and ended with `…`) when it is too long."""


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Timestamp = Annotated[AwareDatetime, PlainSerializer(_rfc3339, return_type=str)]
"""A point in time, aware; written as RFC 3339 in UTC and in whole seconds, as Kubernetes writes its own."""

DURATION_LENGTH: Final = 24

Duration = Annotated[str, Field(min_length=2, max_length=DURATION_LENGTH, pattern=f"^{DURATION_PATTERN}$")]
"""A length of time as people write it: days, hours, minutes and seconds, such as 90s, 1h30m or 7d."""
