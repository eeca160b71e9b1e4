"""How much work is thrown away: half a day of cut uplinks, flaps and deaths, replayed against the defaults.

Nearly every silence of an edge device is a cut of its uplink, in which its work goes on. Replacing that work at once
would throw one of the two copies away, each time. The trace is drawn from a seed, by the rates below; it is the same in
each run. Work counts in device-seconds: the time for which containers ran.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Final

from edgewise.api import EdgeJobSpec, EdgeJobStatus
from edgewise.domain.views import JobView, Key, PodPhase, PodView

from tests.domain.simulator import Simulation, is_finished
from tests.domain.simulator_api import Api
from tests.domain.simulator_device import Container, Device, Gateway, Volume
from tests.figures import Figures

MOST_PERCENT: Final = 5.0
HOURS: Final = 6
STEP: Final = timedelta(seconds=5)
DEVICES: Final = 6
JOBS_AT_ONCE: Final = 9
JOB_SECONDS: Final = (120, 300, 600, 900)
"""How long a job takes on the fastest device."""

CUTS_AN_HOUR: Final = 3.0
"""Short cuts of a device's uplink: a lorry before the antenna, a router that restarts."""
CUT_SECONDS: Final = (4, 45)
OUTAGES_AN_HOUR: Final = 0.15
"""Longer ones, in which the default patience ends."""
OUTAGE_SECONDS: Final = (60, 600)
FLAPS_AN_HOUR: Final = 0.05
"""A loose plug: ten cuts in a row."""
FLAP_SECONDS: Final = (15, 40)
DEATHS_AN_HOUR: Final = 0.05
"""Power cuts; what ran is lost."""
DEATH_SECONDS: Final = (30, 1800)


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A device loses its uplink, or its power, for a while."""

    at: float
    device: str
    power: bool
    seconds: float


def trace(seed: int) -> list[Fault]:
    """The faults of `HOURS` hours, in order, each kind as a Poisson process."""
    rng = Random(seed)  # noqa: S311 - a trace, no secret
    faults: list[Fault] = []
    for device in (f"edge-{n}" for n in range(1, DEVICES + 1)):
        faults += (Fault(at, device, False, rng.uniform(*CUT_SECONDS)) for at in _moments(rng, CUTS_AN_HOUR))
        faults += (Fault(at, device, False, rng.uniform(*OUTAGE_SECONDS)) for at in _moments(rng, OUTAGES_AN_HOUR))
        faults += (Fault(at, device, True, rng.uniform(*DEATH_SECONDS)) for at in _moments(rng, DEATHS_AN_HOUR))
        for at in _moments(rng, FLAPS_AN_HOUR):
            faults += (Fault(at + 60 * n, device, False, rng.uniform(*FLAP_SECONDS)) for n in range(10))
    return sorted(faults)


def _moments(rng: Random, an_hour: float) -> Iterator[float]:
    """When a Poisson process strikes, in seconds after the start."""
    at = rng.expovariate(an_hour / 3600)
    while at < HOURS * 3600:
        yield at
        at += rng.expovariate(an_hour / 3600)


@dataclass(slots=True)
class Worker(Device):
    """A device whose apps always succeed, and which counts for how long each container has run."""

    ran: dict[str, float] = field(default_factory=dict)
    ticked_at: datetime | None = None

    def tick(self, api: Api, gateway: Gateway) -> None:
        """One round; work first."""
        past = (api.now - (self.ticked_at or api.now)).total_seconds()
        self.ticked_at = api.now
        for uid, container in self.containers.items():
            if self.powered and not container.ended:
                self.ran[uid] = self.ran.get(uid, 0.0) + past
        Device.tick(self, api, gateway)

    def _start(self, api: Api, pod: PodView) -> None:
        if pod.phase is PodPhase.RUNNING:
            Device._start(self, api, pod)  # it ran before a power cut
            return
        seconds = JOB_SECONDS[int(pod.job.rpartition("-")[2]) % len(JOB_SECONDS)] / self.speed
        self.containers[pod.uid] = Container(api.now + timedelta(seconds=seconds), 0)
        self.volumes[pod.uid] = Volume(pod)
        api.put_pod(pod, phase=PodPhase.RUNNING, started_at=api.second + self.clock_offset)


@dataclass(slots=True)
class Outcome:
    """What a replay came to, in device-seconds."""

    done: float = 0.0
    thrown_away: float = 0.0
    jobs: int = 0
    attempts: int = 0

    @property
    def share(self) -> float:
        return self.thrown_away / (self.done + self.thrown_away)


class Replay:
    """Steady work under a trace of faults."""

    def __init__(self, faults: list[Fault], spec: dict[str, object]) -> None:
        self.sim = Simulation.new(DEVICES)
        self.sim.rng.seed(1)
        self.sim.devices = {
            name: Worker(name, self.sim.rng, one.speed, one.clock_offset, refused_share=0)
            for name, one in self.sim.devices.items()
        }
        self.faults = faults
        self.spec = EdgeJobSpec.model_validate({"appRef": {"name": "faces"}, **spec})
        self.made = 0
        self.mended: list[tuple[float, Fault]] = []
        self.outcome = Outcome()
        self.published: set[str] = set()

    def run(self) -> Outcome:
        """The whole trace, and then the work that is left."""
        start, waiting = self.sim.api.now, list(self.faults)
        while self._past(start) < HOURS * 3600:
            while waiting and waiting[0].at <= self._past(start):
                self._strike(waiting.pop(0), start)
            self._top_up()
            self._step(start)
        while self.sim.api.jobs:
            self._step(start)
            assert self._past(start) < 2 * HOURS * 3600, f"stuck: {self.sim.stuck()}"
        return self._count()

    def _step(self, start: datetime) -> None:
        self._mend(start)
        self.sim.settle()
        self.sim.advance(STEP)
        for job in list(self.sim.api.jobs.values()):
            if is_finished(job):
                assert job.status.results is not None, f"{job.key} failed: {job.status.conditions}"
                self.published.add(job.status.results.pod_uid or "")
                self.outcome.jobs += 1
                self.outcome.attempts += len(job.status.attempts)
                self.sim.api.delete_job(job.key)

    def _past(self, start: datetime) -> float:
        return (self.sim.api.now - start).total_seconds()

    def _strike(self, fault: Fault, start: datetime) -> None:
        device = self.sim.devices[fault.device]
        if fault.power and device.powered:
            device.power_off()
        elif not fault.power:
            device.connected = False
        self.mended.append((self._past(start) + fault.seconds, fault))

    def _mend(self, start: datetime) -> None:
        """End what is over, unless a later fault of the same kind still holds the device."""
        over = [fault for until, fault in self.mended if until <= self._past(start)]
        self.mended = [(until, fault) for until, fault in self.mended if until > self._past(start)]
        held = {(fault.device, fault.power) for _, fault in self.mended}
        for fault in over:
            device = self.sim.devices[fault.device]
            if (fault.device, fault.power) in held:
                continue
            if not fault.power:
                device.connected = True
            elif not device.powered:
                device.power_on(self.sim.api.now)

    def _top_up(self) -> None:
        api = self.sim.api
        for _ in range(JOBS_AT_ONCE - len(api.jobs)):
            self.made += 1
            key = Key("demo", f"run-{self.made}")
            api.put_job(JobView(key, api.uid(), 1, "0", api.second, False, self.spec, EdgeJobStatus()))

    def _count(self) -> Outcome:
        for device in self.sim.devices.values():
            assert isinstance(device, Worker)
            for uid, seconds in device.ran.items():
                if uid in self.published:
                    self.outcome.done += seconds
                else:
                    self.outcome.thrown_away += seconds
        return self.outcome


def test_the_defaults_throw_little_work_away(figures: Figures) -> None:
    faults = trace(2026)
    outcome = Replay(faults, {}).run()
    print(
        f"{len(faults)} faults in {HOURS} h on {DEVICES} devices; {outcome.jobs} jobs in {outcome.attempts} attempts; "
        f"thrown away {outcome.thrown_away:.0f} of {outcome.done + outcome.thrown_away:.0f} device-seconds, "
        f"{outcome.share:.1%}"
    )
    figures(f"work thrown away in {HOURS} h with {len(faults)} faults", 100 * outcome.share, MOST_PERCENT, "%")
    assert outcome.jobs > 100
    assert outcome.attempts > outcome.jobs, "some work was replaced"
    assert 100 * outcome.share < MOST_PERCENT
