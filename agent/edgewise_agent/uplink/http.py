"""Beats over HTTPS. This module owns the one request that carries a beat; it never decides when."""

from typing import Protocol

from msgspec import DecodeError, json

from edgewise_agent.uplink.connection import Connection, Unreachable
from edgewise_agent.wire import Beat, BeatAnswer


class Uplink(Protocol):
    """Carries beats to the operator."""

    def send(self, beat: Beat) -> BeatAnswer:
        """Send one beat; blocks. Raises `Unreachable`, also when the operator refuses the beat."""
        ...


class HttpUplink:
    """Posts each beat to the operator."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, beat: Beat) -> BeatAnswer:
        """Send one beat; blocks. Raises `Unreachable`, also when the operator refuses the beat."""
        answer = self._connection.request("POST", "/v1/beats", json.encode(beat))
        what = f"beat to {self._connection.base_url}"
        if answer.status != 200:
            raise Unreachable(answer.explained(what))
        try:
            return json.decode(answer.body, type=BeatAnswer)
        except (DecodeError, UnicodeDecodeError) as error:
            raise Unreachable(f"{what}: the answer is not one of an operator ({error})") from error
