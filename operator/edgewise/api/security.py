"""The security settings that an app may choose. Only what the Pod Security Standard `restricted` leaves open.

Owns the notation; domain/pods adds what `restricted` demands (no root, no capabilities, seccomp).
"""

from typing import Annotated

from pydantic import Field

from edgewise.api.schema import Model, unique

Identifier = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""A user's or group's number, never root's."""


class SELinuxOptions(Model):
    """The pod's SELinux label."""

    level: Annotated[str, Field(max_length=256, pattern="^[-a-zA-Z0-9:.,]*$")] = ""
    """The level part of the label, such as s0:c123,c456."""


class SecurityContext(Model):
    """As whom the app runs. It never runs as root and never gains privileges."""

    run_as_user: Identifier | None = None
    """The user's number; Edgewise chooses one that is not root unless it is given."""
    run_as_group: Identifier | None = None
    """The group's number."""
    fs_group: Identifier | None = None
    """The group that owns mounted files."""
    supplemental_groups: Annotated[tuple[Identifier, ...], Field(max_length=32), unique()] = ()
    """More groups of the app's processes."""
    read_only_root_filesystem: bool = False
    """Whether the container's own files can't be changed."""
    se_linux_options: SELinuxOptions | None = None
    """The pod's SELinux label."""
