"""The table of the output volumes that the device holds: where each is on its way from the pod to the gateway.

This module owns every change of a volume's state, each first on the disk (journal, spool), then in memory, under one
lock, so that kubelet's calls, the uploader and the reconciler may come from any thread and may be repeated. It never
talks to the network, and never removes what the gateway has not acknowledged or disowned. Of what is acknowledged it
keeps a copy until that is settled, or something else needs its room.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from edgewise_agent import wire
from edgewise_agent.journal import LOGS, Entry, Finish, Journal
from edgewise_agent.logs import keep_logs, log_folder
from edgewise_agent.metrics import free_bytes
from edgewise_agent.settings import Settings
from edgewise_agent.spool import Spool
from edgewise_agent.volumes import kubelet
from edgewise_agent.wire import LoggedPod, OutputVolume, VolumeReport, VolumeState

REMEMBER_SECONDS: Final = 3600
"""How long beats report a finished volume, so that an operator that was away learns of it."""

MOST_REPORTED: Final = 1000
MOST_BYTES: Final = 2**63 - 1
WAITING: Final = frozenset({VolumeState.SPOOLED, VolumeState.SENDING, VolumeState.FAILED})
"""The states of a volume whose files are in the spool."""
UNKNOWN_KEPT_SECONDS: Final = 30 * 24 * 3600
"""How long files are kept that no journal entry explains: for whoever looks for them on the device."""
LOGS_SHARE: Final = 8
"""Logs of pods without output volume have this part of the spool, and results never less than the rest."""

_LOGS_PREFIX: Final = "logs-"

_log = logging.getLogger(__name__)


class SpoolFull(RuntimeError):
    """The device takes no new volume now; the message says what fills it."""


@dataclass(frozen=True, slots=True)
class LivePods:
    """The pods that live on the device, by the operator's answer that came in at `at` (monotonic seconds)."""

    uids: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True)
class Held:
    """A volume as it was when the table was asked. `generation` tells it from the same volume published again."""

    entry: Entry
    state: VolumeState
    generation: int
    bytes_: int


@dataclass(slots=True)
class _Volume:
    entry: Entry
    state: VolumeState
    since: float
    """monotonic time of the state's beginning"""
    generation: int = 0
    bytes_: int = 0
    measured: bool = False
    sent_bytes: int = 0
    copy_bytes: int = 0
    """size of the copy that is kept of an acknowledged volume"""
    over_limit: bool = False
    no_room: bool = False
    message: str = ""
    absent_since: float | None = None
    restored: bool = False
    file_home_at: float | None = None
    """monotonic time at which a file of it last came home"""

    @property
    def is_kept(self) -> bool:
        return self.entry.finish is not None and self.entry.finish.kept

    def held(self) -> Held:
        return Held(self.entry, self.state, self.generation, self.bytes_)


class VolumeTable:
    """All volumes of one device. Safe to use from several threads; methods that touch the disk raise `OSError`.

    `changed` is called, from any thread and with the lock held, after a state changed, or why a live volume has to go.
    """

    def __init__(self, settings: Settings, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._changed = changed
        self._lock = threading.RLock()
        self._volumes: dict[str, _Volume] = {}
        settings.plugin_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._journal = Journal(settings.plugin_dir / "journal")
        self.spool = Spool(settings.plugin_dir)

    def load(self) -> None:
        """Take up after a start: read the journal, and where each volume is from the disk."""
        with self._lock:
            for entry in self._journal.load():
                if entry.finish is not None:
                    volume = self._finished(entry, entry.finish)
                elif self.spool.holds(entry.volume_id):
                    size = min(self.spool.size(entry.volume_id), MOST_BYTES)
                    volume = _Volume(entry, VolumeState.SPOOLED, time.monotonic(), bytes_=size, measured=True)
                elif entry.logs_only:
                    _log.error("the logs of pod %s were in the spool and are not any more", _pod(entry))
                    self._journal.remove(entry.volume_id)
                    continue
                else:
                    volume = _Volume(entry, VolumeState.LIVE, time.monotonic())
                self._volumes[entry.volume_id] = volume
            for volume_id in self.spool.volume_ids():
                # Logs are copied before their entry is written.
                if volume_id.startswith(_LOGS_PREFIX) and volume_id not in self._volumes:
                    self.spool.let_go(volume_id)
        _log.info("journal read: %d volumes, %d of them to be sent", len(self._volumes), len(self.waiting()))

    def _finished(self, entry: Entry, finish: Finish) -> _Volume:
        """A volume that an earlier process of the agent finished, with the copy that it kept if that is there."""
        kept = finish.kept and self.spool.holds(entry.volume_id)
        if not kept:
            self.spool.let_go(entry.volume_id)
        volume = _Volume(replace(entry, finish=replace(finish, kept=kept)), finish.state, time.monotonic())
        volume.message, volume.bytes_, volume.sent_bytes = finish.message, finish.bytes_, finish.bytes_
        volume.copy_bytes = min(self.spool.size(entry.volume_id), MOST_BYTES) if kept else 0
        return volume

    def unfinished_entry(self, volume_id: str) -> Entry | None:
        """The journal's entry of a volume that is in a pod or still to be sent."""
        with self._lock:
            volume = self._volumes.get(volume_id)
            return None if volume is None or volume.entry.finish is not None else volume.entry

    def publish(self, entry: Entry) -> None:
        """Make the volume's target ready for its pod; again, when it is already, and with its files when it was taken.

        The folder may be written by any user: only the containers of its pod can reach it (kubelet keeps the folders
        above it to root), they run as whatever user the app wants, and fsGroup stays possible. docs/agent.md says more.
        Raises `SpoolFull`, for a new volume only.
        """
        target = Path(entry.target)
        with self._lock:
            volume = self._volumes.get(entry.volume_id)
            if volume is None or volume.entry.finish is not None:
                if full := self.usage().full:
                    raise SpoolFull(full)
                self._journal.write(entry)
                self.spool.let_go(entry.volume_id)
                generation = 0 if volume is None else volume.generation + 1
                self._volumes[entry.volume_id] = _Volume(entry, VolumeState.LIVE, time.monotonic(), generation)
            elif volume.state in WAITING:
                _log.warning("volume %s is wanted again by pod %s: given back", entry.volume_id, _pod(volume.entry))
                self.spool.give_back(entry.volume_id, target)
                self._become(volume, VolumeState.LIVE)
            target.mkdir(exist_ok=True)
            target.chmod(0o777)
            kubelet.sync_record(target)
            self._changed()

    def unpublish(self, volume_id: str, target: Path) -> None:
        """Take the volume from its pod, which has ended, into the spool; nothing to do when that is done already."""
        with self._lock:
            volume = self._volumes.get(volume_id)
            ended = volume.entry if volume is not None and volume.state is VolumeState.LIVE else None
        if ended is not None:
            self._keep_logs(ended)
        with self._lock:
            volume = self._volumes.get(volume_id)
            if volume is None:
                if place := self.spool.set_aside(volume_id, target):
                    _log.error("volume %s is in no journal: its files are kept in %s", volume_id, place)
                return
            if volume.state is VolumeState.LIVE:
                self._take(volume)

    def knows_logs(self, pod_uid: str) -> bool:
        """Whether the logs of a pod without output volume have been taken."""
        with self._lock:
            return f"{_LOGS_PREFIX}{pod_uid}" in self._volumes

    def has_room_for_logs(self) -> bool:
        """Whether logs of pods without output volume may come into the spool now."""
        with self._lock:
            bytes_ = sum(v.bytes_ for v in self._volumes.values() if v.state in WAITING and v.entry.logs_only)
            return bytes_ < self._settings.spool_limit_bytes // LOGS_SHARE

    def take_logs(self, pod: LoggedPod, keep: Callable[[Path], int]) -> None:
        """Take the logs of a pod without output volume into the spool; once. Not for one pod in several threads.

        `keep` copies them into a folder and returns how many there were; where there were none, this is noted, and
        nothing is sent. Raises `OSError`, and whatever `keep` raises.
        """
        entry = Entry(
            volume_id=f"{_LOGS_PREFIX}{pod.pod_uid}",
            kind=LOGS,
            target="",
            namespace=pod.namespace,
            pod_name=pod.pod_name,
            pod_uid=pod.pod_uid,
            asked=OutputVolume(
                job_uid=pod.job_uid, job=pod.job, attempt=pod.attempt, include=(), max_files=0, size_limit_bytes=0
            ),
        )
        if self.knows_logs(pod.pod_uid):
            return
        state, message, size = VolumeState.SPOOLED, "", 0
        if keep(self.spool.logs(entry.volume_id)):
            self.spool.take_logs(entry.volume_id)
            size = min(self.spool.size(entry.volume_id), MOST_BYTES)
        else:
            self.spool.let_go(entry.volume_id)  # what an earlier call may have begun
            state, message = VolumeState.DISCARDED, "the device has no logs of this pod"
            entry = replace(entry, finish=Finish(state=state, message=message))
        with self._lock:
            self._journal.write(entry)
            self._volumes[entry.volume_id] = _Volume(
                entry, state, time.monotonic(), bytes_=size, measured=True, message=message
            )
            self._changed()

    def reconcile(self, live: LivePods | None) -> None:
        """Compare the journal with the disk and with the pods that live; None changes nothing but kubelet's records.

        Kubelet's empty record of a live volume is restored. A volume whose pod is missing from two answers that are a
        reconcile interval apart is collected: kubelet left it behind. What was finished an hour ago is forgotten,
        logs alone not before their pod is gone: they would be taken again.
        """
        with self._lock:
            for volume in list(self._volumes.values()):
                try:
                    if volume.state is VolumeState.LIVE:
                        self._reconcile_live(volume, live)
                    elif self._may_be_forgotten(volume, live):
                        self._journal.remove(volume.entry.volume_id)
                        del self._volumes[volume.entry.volume_id]
                except OSError as error:
                    _log.error("volume of pod %s can't be put in order, trying again: %s", _pod(volume.entry), error)

    @staticmethod
    def _may_be_forgotten(volume: _Volume, live: LivePods | None) -> bool:
        if volume.entry.finish is None or volume.is_kept or time.monotonic() - volume.since <= REMEMBER_SECONDS:
            return False
        return not volume.entry.logs_only or (live is not None and volume.entry.pod_uid not in live.uids)

    def _reconcile_live(self, volume: _Volume, live: LivePods | None) -> None:
        target = Path(volume.entry.target)
        if kubelet.record_is_broken(target):
            _log.warning("kubelet's record of volume %s was empty: restored", volume.entry.volume_id)
            kubelet.restore_record(target, volume.entry.volume_id, self._settings.node_name)
            volume.restored = True
        if live is None or live.at < volume.since or volume.entry.pod_uid in live.uids:
            volume.absent_since = None
        elif volume.absent_since is None:
            volume.absent_since = live.at
        elif live.at - volume.absent_since >= 0.9 * self._settings.reconcile_seconds:
            _log.warning("pod %s is gone, its volume was left behind: collected", _pod(volume.entry))
            self._keep_logs(volume.entry)
            self._take(volume)
            if volume.restored:
                # kubelet gave the volume up when it could not read its record, and will not ask again.
                kubelet.forget_volume(target)

    def live(self) -> list[Held]:
        """The volumes that are in pods."""
        with self._lock:
            return [volume.held() for volume in self._volumes.values() if volume.state is VolumeState.LIVE]

    def is_current(self, held: Held) -> bool:
        """Whether the volume is still in the state, and the same folder, as in `held`."""
        with self._lock:
            volume = self._same(held)
            return volume is not None and volume.state is held.state

    def unmeasured(self) -> list[Held]:
        """The volumes in the spool whose size is only known from when they were live."""
        with self._lock:
            return [v.held() for v in self._volumes.values() if v.state in WAITING and not v.measured]

    def waiting(self) -> list[Held]:
        """The volumes in the spool, oldest first."""
        with self._lock:
            return [volume.held() for volume in self._volumes.values() if volume.state in WAITING]

    def kept(self) -> list[Held]:
        """The volumes that the gateway has acknowledged and of which a copy is kept, in the order of the waiting."""
        with self._lock:
            return [volume.held() for volume in self._volumes.values() if volume.is_kept]

    def note_size(
        self, held: Held, bytes_: int, *, over_limit: bool = False, no_room: bool = False, message: str = ""
    ) -> None:
        """Note what a volume was measured to hold, and of a live one whether and why it has to go."""
        with self._lock:
            if (volume := self._same(held)) is None:
                return
            # Sparse files can say more than the beat's number holds.
            volume.bytes_, volume.measured = min(bytes_, MOST_BYTES), True
            if volume.state is VolumeState.LIVE:
                changed = (volume.over_limit, volume.no_room) != (over_limit, no_room)
                volume.over_limit, volume.no_room, volume.message = over_limit, no_room, message
                if changed:
                    if message:
                        _log.warning("pod %s has to go: %s", _pod(volume.entry), message)
                    self._changed()

    def note_sending(self, held: Held, sent_bytes: int) -> bool:
        """Note that the gateway holds this much of it. False when the volume is no longer the one in `held`: stop."""
        with self._lock:
            volume = self._same(held)
            if volume is None or volume.state not in WAITING:
                return False
            volume.sent_bytes = sent_bytes
            if volume.state is not VolumeState.SENDING or volume.message:
                volume.state, volume.message = VolumeState.SENDING, ""
                self._changed()
            return True

    def note_waiting(self, held: Held, message: str) -> None:
        """Note why the gateway can't take it now, as with a full volume; it is offered again."""
        with self._lock:
            volume = self._same(held)
            waits = volume is not None and volume.state in WAITING and volume.state is not VolumeState.FAILED
            if volume is not None and waits and volume.message != message[:1024]:
                volume.message = message[:1024]
                self._changed()

    def note_failed(self, held: Held, message: str) -> None:
        """Note that the gateway refused it for good; the files stay."""
        with self._lock:
            volume = self._same(held)
            if volume is not None and volume.state in WAITING:
                volume.state, volume.message = VolumeState.FAILED, message[:1024]
                self._changed()

    def note_file_home(self, volume_id: str) -> None:
        """Note that a file of a volume has come home just now, be the volume live or not."""
        with self._lock:
            if (volume := self._volumes.get(volume_id)) is not None:
                volume.file_home_at = time.monotonic()

    def finish(self, held: Held, finish: Finish) -> None:
        """Note that nothing is left to send: acknowledged (Done) or unwanted (Discarded).

        The files go, unless `finish` says that they are kept. Raises `OSError`: to be repeated, since the journal does
        not say so; what is unwanted is let go all the same, to be swept.
        """
        with self._lock:
            volume = self._same(held)
            if volume is None or volume.state not in WAITING:
                return
            size = volume.bytes_
            try:
                self._write_finish(volume, finish)
            except OSError:
                if finish.state is VolumeState.DISCARDED:
                    # A disk that is too full for the journal must not keep what fills it.
                    self.spool.let_go(volume.entry.volume_id)
                raise
            self._become(volume, finish.state)
            volume.bytes_, volume.message = finish.bytes_, finish.message
            volume.sent_bytes = finish.bytes_ if finish.state is VolumeState.DONE else 0
            if finish.kept:
                volume.copy_bytes = size
            else:
                self.spool.let_go(volume.entry.volume_id)
            self._changed()

    def drop_copy(self, held: Held) -> None:
        """Let the kept copy of an acknowledged volume go; `Spool.sweep` removes it."""
        with self._lock:
            volume = self._same(held)
            if volume is None or volume.entry.finish is None or not volume.is_kept:
                return
            # The folder first: a disk that is too full for the journal must not keep what fills it.
            self.spool.let_go(volume.entry.volume_id)
            volume.entry = replace(volume.entry, finish=replace(volume.entry.finish, kept=False))
            volume.copy_bytes, volume.since = 0, time.monotonic()
            self._journal.write(volume.entry)

    def send_again(self, held: Held) -> None:
        """Take the acknowledgement of a kept volume as never given: its files wait to be sent."""
        with self._lock:
            volume = self._same(held)
            if volume is None or not volume.is_kept:
                return
            self._write_finish(volume, None)
            self._become(volume, VolumeState.SPOOLED)
            volume.copy_bytes = 0
            self._changed()

    def make_room(self) -> None:
        """Remove kept copies, the oldest first, as far as the spool is over its limit or the device under its floor.

        What waits to be sent, and what pods write, comes before a copy of what the gateway has. On a device under its
        floor, what is left of unknown volumes goes after the copies, and after `UNKNOWN_KEPT_SECONDS` everywhere.
        """
        self._drop_copies()
        for place, age in self.spool.unknown(time.time()):
            if age < UNKNOWN_KEPT_SECONDS and not self._is_under_floor():
                return
            _log.warning("%s goes, files of a volume that nothing is known about, kept for %.0f s", place, age)
            self.spool.drop_unknown(place)

    def _drop_copies(self) -> None:
        for held in self.kept():
            if not self._is_short_of_room():
                return
            _log.warning("the copy of acknowledged results of pod %s goes: its room is needed", _pod(held.entry))
            self.drop_copy(held)
            self.spool.sweep()

    def _is_short_of_room(self) -> bool:
        with self._lock:
            copies = sum(volume.copy_bytes for volume in self._volumes.values())
            over_limit = copies + self.usage().bytes_ > self._settings.spool_limit_bytes
        return over_limit or self._is_under_floor()

    def _is_under_floor(self) -> bool:
        return free_bytes(self._settings.kubelet_root) < self._settings.free_space_floor_bytes

    def _write_finish(self, volume: _Volume, finish: Finish | None) -> None:
        entry = replace(volume.entry, finish=finish)
        self._journal.write(entry)
        volume.entry = entry

    def usage(self) -> wire.Spool:
        """How full the spool is."""
        with self._lock:
            bytes_ = min(sum(v.bytes_ for v in self._volumes.values() if v.state in WAITING), MOST_BYTES)
        return wire.Spool(
            bytes_=bytes_, limit_bytes=self._settings.spool_limit_bytes, full=self._why_full(bytes_)[:1024]
        )

    def reports(self) -> tuple[VolumeReport, ...]:
        """What the beat says of each volume; should there be over 1,000, first those not finished, then those kept."""
        with self._lock:
            volumes = sorted(
                self._volumes.values(), key=lambda volume: (volume.entry.finish is not None, not volume.is_kept)
            )
            return tuple(_report(volume) for volume in volumes[:MOST_REPORTED])

    def _same(self, held: Held) -> _Volume | None:
        volume = self._volumes.get(held.entry.volume_id)
        return volume if volume is not None and volume.generation == held.generation else None

    def _keep_logs(self, entry: Entry) -> None:
        """Copy the logs of the volume's pod into the spool. Results never wait for a log that can't be had."""
        source = log_folder(self._settings.pod_logs, entry.namespace, entry.pod_name, entry.pod_uid)
        if self._settings.log_limit_bytes == 0 or source is None:
            return
        try:
            keep_logs(source, self.spool.logs(entry.volume_id), self._settings.log_limit_bytes)
        except OSError as error:
            _log.warning("logs of pod %s can't be kept: %s", _pod(entry), error)

    def _take(self, volume: _Volume) -> None:
        self.spool.take(volume.entry.volume_id, Path(volume.entry.target))
        self._become(volume, VolumeState.SPOOLED)
        self._changed()

    @staticmethod
    def _become(volume: _Volume, state: VolumeState) -> None:
        volume.state, volume.since = state, time.monotonic()
        volume.generation += 1
        volume.sent_bytes, volume.over_limit, volume.no_room, volume.message = 0, False, False, ""
        volume.absent_since, volume.measured = None, False

    def _why_full(self, bytes_: int) -> str:
        """Why no new volume is handed out now, with `bytes_` in the spool; empty where one is."""
        limit, floor = self._settings.spool_limit_bytes, self._settings.free_space_floor_bytes
        if bytes_ >= limit:
            return (
                f"{bytes_} bytes of results wait to be sent, the limit is {limit}: new volumes wait until "
                f"{self._settings.gateway_url} has taken some of them"
            )
        try:
            free = free_bytes(self._settings.kubelet_root)
        except OSError as error:
            return f"the free space on {self._settings.kubelet_root} can't be read ({error}): new volumes wait"
        if free < floor:
            return (
                f"{free} bytes are free on {self._settings.kubelet_root}, the floor is {floor}: new volumes wait until "
                "there is room"
            )
        return ""


def _report(volume: _Volume) -> VolumeReport:
    return VolumeReport(
        pod_uid=volume.entry.pod_uid,
        job_uid=volume.entry.asked.job_uid,
        attempt=volume.entry.asked.attempt,
        state=volume.state,
        bytes_=volume.bytes_,
        sent_bytes=volume.sent_bytes,
        over_limit=volume.over_limit,
        no_room=volume.no_room,
        message=volume.message,
        last_file_seconds=None if volume.file_home_at is None else time.monotonic() - volume.file_home_at,
    )


def _pod(entry: Entry) -> str:
    return f"{entry.namespace}/{entry.pod_name}"
