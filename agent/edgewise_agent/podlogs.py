"""The logs of pods without output volume: which are wanted is the operator's word, when to copy them is decided here.

This module owns the watch over those pods' log folders. kubelet tells nobody when such a pod ends, and removes its logs
with it, so the logs of a running pod are held open. It reads nothing of other pods, and sends nothing.
docs/decisions/logs.md says why it is so.
"""

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

from edgewise_agent.logs import OpenLogs, log_folder
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import VolumeTable
from edgewise_agent.wire import LoggedPod

LOOK_SECONDS: Final = 2.0
"""How often the folders are looked at, while there are any."""
UNNAMED_SECONDS: Final = 60.0
"""A pod that the operator has not named for so long is gone, whatever its folder says."""
AGAIN_SECONDS: Final = 30.0
"""How soon logs are tried again that could not be copied."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    pod: LoggedPod
    logs: OpenLogs
    named_at: float
    not_before: float = 0.0


class PodLogs:
    """The watch over one device's pods. Used by one thread at a time."""

    def __init__(self, settings: Settings, table: VolumeTable) -> None:
        self._settings = settings
        self._table = table
        self._watched: dict[str, _Watched] = {}

    @property
    def idle(self) -> bool:
        """Whether no pod is watched."""
        return not self._watched

    def look(self, named: tuple[LoggedPod, ...] | None) -> None:
        """Look once: note the pods that the operator names now (None: it says nothing), and copy what has ended."""
        now = time.monotonic()
        for pod in named or ():
            if self._table.knows_logs(pod.pod_uid):
                continue
            folder = log_folder(self._settings.pod_logs, pod.namespace, pod.pod_name, pod.pod_uid)
            if folder is None:
                continue
            watched = self._watched.setdefault(pod.pod_uid, _Watched(pod, OpenLogs(folder), now))
            watched.pod, watched.named_at = pod, now
        for uid, watched in list(self._watched.items()):
            if now < watched.not_before:
                continue
            try:
                there = watched.logs.look()
                gone = not there or (named is not None and now - watched.named_at >= UNNAMED_SECONDS)
                if gone or watched.pod.ended:
                    self._end(watched, gone=gone)
            except OSError as error:
                _log.warning("logs of pod %s can't be kept, trying again in %.0f s: %s", uid, AGAIN_SECONDS, error)
                watched.not_before = now + AGAIN_SECONDS

    def _end(self, watched: _Watched, *, gone: bool) -> None:
        """Copy the logs into the spool, or wait for room while kubelet has them, and give them up afterwards."""
        pod = watched.pod
        if self._table.has_room_for_logs():
            limit = self._settings.log_limit_bytes
            self._table.take_logs(pod, partial(watched.logs.keep, limit_bytes=limit) if limit else _nothing)
        elif gone:
            _log.warning("logs of pod %s/%s are lost: too many others wait to be sent", pod.namespace, pod.pod_name)
        else:
            return
        watched.logs.close()
        del self._watched[pod.pod_uid]


def _nothing(_: object) -> int:
    return 0
