"""Sessions of agents: a short secret that stands for a long token, so that beats are short.

Owns which sessions there are, in memory only: an operator that has just started knows none, and agents show their
tokens again.
"""

import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from cachetools import TTLCache
from edgewise_agent.wire import SESSION

from edgewise.kube.tokens import User

MOST: Final = 32_768
"""More than devices that one operator hears; the oldest go first."""


@dataclass(slots=True)
class Sessions:
    """The sessions that were given within `wire.SESSION`."""

    _users: TTLCache[str, User] = field(default_factory=lambda: TTLCache(MOST, SESSION.total_seconds(), time.monotonic))

    def begin(self, user: User) -> str:
        """A new session of a user whose token was just accepted."""
        session = secrets.token_urlsafe(16)
        self._users[session] = user
        return session

    def user(self, session: str) -> User | None:
        """Whose session that is; None for one that is over, or was never given."""
        return self._users.get(session)
