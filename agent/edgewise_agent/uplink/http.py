"""Beats over HTTPS. This module owns the one request that carries a beat; it never decides when."""

import time
from typing import Final, Protocol

from msgspec import DecodeError, json

from edgewise_agent.uplink.connection import Answer, Connection, Unreachable
from edgewise_agent.wire import SESSION, Beat, BeatAnswer, pack_beat

SESSION_SECONDS: Final = 0.9 * SESSION.total_seconds()
"""For how long a session is used: the operator shall not have to refuse it."""

PLAIN_SECONDS: Final = 3600.0
"""How long an operator is believed that can't read packed beats: it may be replaced by one that can."""

UNAUTHORIZED: Final = 401
UNREADABLE: Final = (415, 422)


class Uplink(Protocol):
    """Carries beats to the operator."""

    def send(self, beat: Beat) -> BeatAnswer:
        """Send one beat; blocks. Raises `Unreachable`, also when the operator refuses the beat."""
        ...


class HttpUplink:
    """Posts each beat to the operator: with the token now and then, with a session in between."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session = ""
        self._session_until = 0.0
        self._plain_until = 0.0

    def send(self, beat: Beat) -> BeatAnswer:
        """Send one beat; blocks. Raises `Unreachable`, also when the operator refuses the beat."""
        answer = self._post(beat)
        if answer.status == UNAUTHORIZED and self._session:
            self._session = ""
            answer = self._post(beat)
        if answer.status in UNREADABLE and time.monotonic() >= self._plain_until:
            self._plain_until = time.monotonic() + PLAIN_SECONDS
            answer = self._post(beat)
        what = f"beat to {self._connection.base_url}"
        if answer.status != 200:
            raise Unreachable(answer.explained(what))
        try:
            told = json.decode(answer.body, type=BeatAnswer)
        except (DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"{what}: the answer is not one of an operator ({error})") from error
        if told.session:
            self._session, self._session_until = told.session, time.monotonic() + SESSION_SECONDS
        return told

    def _post(self, beat: Beat) -> Answer:
        now = time.monotonic()
        body = json.encode(beat) if now < self._plain_until else pack_beat(beat)
        session = self._session if now < self._session_until else ""
        return self._connection.request("POST", "/v1/beats", body, session=session)
