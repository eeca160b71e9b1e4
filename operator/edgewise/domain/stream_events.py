"""The Kubernetes Events of an EdgeStream: one for each thing that happened between its old status and its new one."""

from collections.abc import Sequence

from edgewise.api import EdgeStreamStatus, StreamPhase
from edgewise.domain.actions import Event
from edgewise.domain.conditions import holds, named
from edgewise.domain.stream_runs import StreamRun
from edgewise.domain.views import StreamView

_STILL: tuple[StreamPhase, ...] = (StreamPhase.RESTARTING, StreamPhase.SUSPENDED)


def events(stream: StreamView, runs: Sequence[StreamRun], new: EdgeStreamStatus) -> list[Event]:
    """The events that the change to `new` is worth."""
    old, told = stream.status, []

    def tell(warning: bool, reason: str, message: str) -> None:
        told.append(Event("EdgeStream", stream.key, stream.uid, warning, reason, message))

    before = next((run for run in runs if run.number == old.run_number), None)
    how = f"{old.run} has ended: {before.end}" if before else f"{old.run} was deleted"
    if new.run_number != old.run_number:
        tell(False, "RunStarted", f"{new.run}; {how}" if old.run_number else new.run)
    elif new.phase in _STILL and old.phase not in _STILL and old.run_number and (not before or before.ended_at):
        tell(bool(before and not before.cancelled), "RunEnded", how)
    if new.phase is StreamPhase.SUSPENDED and old.phase is not StreamPhase.SUSPENDED:
        tell(False, "Suspended", "spec.suspend is true: nothing runs")
    stalled = named(new.conditions, "Stalled")
    was = named(old.conditions, "Stalled")
    if stalled and holds(new.conditions, "Stalled") and (was is None or was.reason != stalled.reason):
        tell(True, stalled.reason, stalled.message)
    return told
