"""A simulator of the whole: a fake cluster, users who change their minds, faults of every kind, `plan()` in control.

A script is a list of steps, each a verb and a seed for its details, so a failing script replays. After every step
the checks of simulator_api.py and simulator_operator.py have held; `heal` ends all faults and asks that every job ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum, auto
from random import Random
from typing import Any, Final

from edgewise.api import EdgeJobSpec, EdgeJobStatus, EdgeNodeSpec, EdgeNodeStatus, spec_body
from edgewise.domain.actions import Action, CreatePod, CreateRun, PatchSpec, PatchStatus
from edgewise.domain.conditions import holds
from edgewise.domain.liveness import OUT_OF_SERVICE
from edgewise.domain.plan import plan
from edgewise.domain.views import JobView, Key, KubeNode, NodeView, Snapshot, Taint
from edgewise_agent import wire

from tests.domain.simulator_api import Api
from tests.domain.simulator_device import GIB, INTERVAL, Device, Gateway
from tests.domain.simulator_operator import APPS, Fate, Operator, check_plan, check_published, check_sets

SPEEDS: Final = (1.0, 0.5, 0.25, 1.0, 0.5, 0.25)
CLOCKS: Final = (0, 1, -1, 0, 0, 0)
"""By how many hours each device's clock is wrong."""
NAMES: Final = ("a", "b", "c", "d", "e", "f")
ROUNDS: Final = 12
"""After how many plans at one instant nothing may be left to do."""
PATIENCE: Final = 400
"""How many beats a healed fleet has to finish its work."""
TICK: Final = timedelta(seconds=2)


class Verb(StrEnum):
    """What can happen in a step. Shown so that a script can be pasted."""

    APPLY_JOB = auto()
    APPLY_SET = auto()
    DELETE_JOB = auto()
    RECREATE_JOB = auto()
    SUSPEND = auto()
    RESUME = auto()
    CANCEL = auto()
    REPRIORITIZE = auto()
    DELETE_POD = auto()
    EDIT_NODE = auto()
    CORDON = auto()
    CROWD = auto()
    REFUSE_PODS = auto()
    POWER_OFF = auto()
    POWER_ON = auto()
    REBOOT = auto()
    WIPE = auto()
    UNPLUG = auto()
    PLUG = auto()
    CUT_HOME = auto()
    DECLARE_LOST = auto()
    AGENT = auto()
    KUBELET = auto()
    HEAT = auto()
    GATEWAY = auto()
    RESTORE = auto()
    HANG_WATCHES = auto()
    LOSE_EVENTS = auto()
    RELIST = auto()
    CRASH = auto()
    CRASH_MIDWAY = auto()
    FLAKY_PASS = auto()
    SLOW_PASS = auto()
    PASS = auto()
    WAIT = auto()
    WAIT_LONG = auto()

    def __repr__(self) -> str:
        return f"Verb.{self.name}"


Step = tuple[Verb, int]


@dataclass(slots=True)
class Simulation:
    """The cluster and its operator."""

    rng: Random
    api: Api
    operator: Operator
    gateway: Gateway
    devices: dict[str, Device]

    @classmethod
    def new(cls, size: int = 3) -> "Simulation":
        """`size` unequal devices (at most six), some with wrong clocks; no jobs yet."""
        rng = Random(0)  # noqa: S311
        api = Api(rng)
        devices = {
            f"edge-{n}": Device(f"edge-{n}", rng, SPEEDS[n - 1], clock_offset=timedelta(hours=CLOCKS[n - 1]))
            for n in range(1, size + 1)
        }
        allocatable = {"cpu": 4.0, "memory": 8.0 * GIB}
        for name in devices:
            api.put_kube(name, KubeNode(f"node-{name}", {}, (), False, True, api.second, allocatable, "amd64"))
            api.contact[name] = api.now
            spec, status = EdgeNodeSpec(), EdgeNodeStatus()
            api.put_node(NodeView(name, f"uid-{name}", 1, "0", spec, status, None, None, None, timedelta()))
        operator = Operator(api)
        operator.start()
        return cls(rng, api, operator, Gateway(), devices)

    def run(self, script: list[Step]) -> None:
        """Take the steps, then heal everything."""
        for verb, seed in script:
            self.rng.seed(seed)
            VERBS[verb](self)
            self.advance(timedelta(seconds=self.rng.choice((0.1, 0.1, 1.5))))
        self.heal()

    def advance(self, duration: timedelta) -> None:
        """Let time pass, in ticks."""
        left = duration
        while left > timedelta():
            tick = min(left, TICK)
            left -= tick
            self.api.now += tick
            self.api.tick()
            for device in self.devices.values():
                device.tick(self.api, self.gateway)
                if self.operator.alive and (beat := device.beat(self.api.now)):
                    self.operator.beats[device.name] = beat
            if self.gateway.up and self.operator.alive:
                for manifest in list(self.gateway.pending.values()):
                    self.gateway.settle(manifest, self.operator.ask(manifest), self.api.succeeded)
            self.operator.collect()

    # --- the operator's passes

    def plan(self) -> tuple[Snapshot, list[Action]]:
        """What the operator wants now."""
        snapshot = self.operator.snapshot()
        planned = plan(snapshot, self.api.now)
        for fault in planned.faults:
            raise AssertionError(fault.what) from fault.error
        check_plan(snapshot, planned.actions)
        check_sets(snapshot, planned.actions)
        return snapshot, list(planned.actions)

    def settle(self) -> list[Action]:
        """Plan and apply, undisturbed, until nothing is left to do at this instant."""
        done: list[Action] = []
        self.operator.listen()
        for _ in range(ROUNDS):
            snapshot, actions = self.plan()
            if not actions:
                check_published(self.operator)
                return done
            self.rng.shuffle(actions)
            self.operator.apply(snapshot, actions, [Fate.DONE] * len(actions))
            self.operator.listen()
            done += actions
        raise AssertionError(f"no end of writes while nothing happens: {done[-3:]}")

    def once(self, fates: Callable[[Action], Fate], *, slow: bool = False, most: int | None = None) -> None:
        """One disturbed pass: `slow` lets the world go on between plan and writes, `most` writes are made."""
        if not self.operator.alive:
            return
        self.operator.listen(self.rng)
        snapshot, actions = self.plan()
        self.rng.shuffle(actions)
        if slow:
            self.advance(timedelta(seconds=self.rng.choice((1, 5, 30))))
            self.operator.listen(self.rng)
        self.operator.apply(snapshot, actions[:most], [fates(action) for action in actions])

    def undisturbed(self) -> None:
        """A pass without faults of its own; watches may still hang."""
        if not self.operator.alive:
            self.operator.start()
        elif self.operator.deaf or self.operator.missed:
            self.once(lambda _: Fate.DONE)
        else:
            self.settle()

    # --- users

    def apply_job(self) -> None:
        key = Key("demo", self.rng.choice(NAMES))
        if key not in self.api.jobs:
            self.api.put_job(
                JobView(key, self.api.uid(), 1, "0", self.api.second, False, self._spec(), EdgeJobStatus())
            )

    def apply_set(self) -> None:
        """A set of indexes, or one for every device."""
        key, pick = Key("demo", self.rng.choice(NAMES)), self.rng.choice
        if key in self.api.jobs:
            return
        body = spec_body(self._spec())
        if pick((True, True, False)):
            body |= {"completions": pick((2, 3, 5)), "maxFailedIndexes": pick((0, 1, 5))}
            body |= pick(({}, {"parallelism": 1}, {"parallelism": 2}))
            body["placement"] |= pick(({}, {}, {"maxPerDevice": 1}))
        else:
            every = {"maxConcurrent": pick((None, 1, "50%")), "abortFailurePercent": pick((None, 0, 50))}
            body["placement"] |= {"everyDevice": {name: value for name, value in every.items() if value is not None}}
        spec = EdgeJobSpec.model_validate(body)
        self.api.put_job(JobView(key, self.api.uid(), 1, "0", self.api.second, False, spec, EdgeJobStatus()))

    def _spec(self) -> EdgeJobSpec:
        pick = self.rng.choice
        body: dict[str, Any] = {
            "appRef": {"name": pick(("faces", "faces", "faces", "plain", "strict", "missing"))},
            "retry": {
                "maxAttempts": pick((1, 2, 3)),
                "maxDisruptions": pick((0, 2, 10, 10)),
                "backoffSeconds": pick((0, 2, 10)),
                "maxBackoffSeconds": 20,
                "nonRetriableExitCodes": pick(([], [3])),
            },
            "disconnect": {"replaceAfterSeconds": pick((10, 10, 60, "Never"))},
            "activeDeadlineSeconds": pick((None, None, None, 120)),
            "queueDeadlineSeconds": pick((None, None, None, 60)),
            "placement": {"evictWhenHot": pick((False, True)), "policy": pick(("", "Score"))},
            "retention": {"pods": pick(("30s", "1h", "Forever"))},
            "suspend": pick((False, False, False, True)),
            "priority": pick((-1, 0, 0, 1)),
        }
        return EdgeJobSpec.model_validate({name: value for name, value in body.items() if value is not None})

    def _edit(self, **values: object) -> None:
        if self.api.jobs:
            job = self.rng.choice(list(self.api.jobs.values()))
            spec = job.spec.model_copy(update=values)
            if spec != job.spec:
                self.api.put_job(replace(job, spec=spec, generation=job.generation + 1))

    def delete_job(self) -> None:
        if self.api.jobs:
            self.api.delete_job(self.rng.choice(list(self.api.jobs)))

    def recreate_job(self) -> None:
        """Delete and create under the same name at once, now and then with a UID that begins alike."""
        jobs = [job for job in self.api.jobs.values() if not job.set_uid]
        if not jobs:
            return
        old = self.rng.choice(jobs)
        uid = self.api.uid()
        alike = old.uid[:5] + uid[5:] if self.rng.random() < 0.3 else uid
        self.api.delete_job(old.key)
        self.api.put_job(JobView(old.key, alike, 1, "0", self.api.second, False, self._spec(), EdgeJobStatus()))

    def delete_pod(self) -> None:
        if self.api.pods:
            pod = self.rng.choice(list(self.api.pods.values()))
            self.api.delete_pod(pod.key, pod.uid)

    # --- admins and the cluster

    def edit_node(self) -> None:
        node = self.rng.choice(list(self.api.nodes.values()))
        change = self.rng.choice(({"slots": 0}, {"slots": 1}, {"slots": None}, {"maintenance": True}, {}))
        spec = EdgeNodeSpec.model_validate(change)
        self.api.put_node(replace(node, spec=spec, generation=node.generation + 1))

    def cordon(self) -> None:
        name = self.device().name
        node = self.api.kube[name]
        self.api.put_kube(name, replace(node, unschedulable=not node.unschedulable))

    def crowd(self) -> None:
        self.api.crowded ^= {self.device().name}

    def declare_lost(self) -> None:
        """An admin taints a device out of service, or takes that back."""
        name = self.device().name
        node = self.api.kube[name]
        taints = () if node.taints else (Taint(OUT_OF_SERVICE, "nodeshutdown", "NoExecute"),)
        self.api.put_kube(name, replace(node, taints=taints))

    def device(self) -> Device:
        return self.devices[self.rng.choice(list(self.devices))]

    def cut_home(self) -> None:
        """A fault at home: nobody is heard, or nearly nobody."""
        for device in self.devices.values():
            device.connected = self.rng.random() < 0.1

    def power(self, *, on: bool) -> None:
        device = self.device()
        if device.powered is not on:
            if on:
                device.power_on(self.api.now)
            else:
                device.power_off()

    def reboot(self) -> None:
        device = self.device()
        if device.powered:
            device.power_off()
            self.advance(timedelta(seconds=self.rng.choice((1, 15))))
            device.power_on(self.api.now)

    def toggle(self, part: str) -> None:
        device = self.device()
        setattr(device, part, not getattr(device, part))

    def heat(self) -> None:
        self.device().celsius = self.rng.choice((None, 45.0, 84.0, 95.0, 95.0))

    def refuse_pods(self) -> None:
        self.api.refusing = not self.api.refusing

    def gateway_fails(self) -> None:
        self.gateway.up = not self.gateway.up

    # --- the operator's own faults

    def hang_watches(self) -> None:
        self.operator.deaf ^= {self.rng.choice(("jobs", "pods", "nodes", "kube"))}

    def lose_events(self) -> None:
        kept = [change for change in self.operator.inbox if self.rng.random() < 0.5]
        self.operator.missed |= len(kept) < len(self.operator.inbox)
        self.operator.inbox = kept

    def relist(self) -> None:
        if self.operator.alive:
            self.operator.deaf.clear()
            self.operator.relist()

    def crash_midway(self) -> None:
        self.once(lambda _: Fate.DONE, most=self.rng.randrange(4))
        self.operator.crash()

    def _fate(self, action: Action) -> Fate:
        return self.rng.choice((Fate.DONE, Fate.DONE, Fate.FAILED, Fate.UNSEEN))

    # --- the end

    def heal(self) -> None:
        """End all faults; then every job must end, leave nothing behind, and be left alone."""
        self.api.refusing = False
        self.api.crowded.clear()
        self.gateway.up = True
        for device in self.devices.values():
            device.heal(self.api.now)
        for name, node in self.api.kube.items():
            self.api.put_kube(name, replace(node, unschedulable=False, taints=()))
        for view in list(self.api.nodes.values()):
            self.api.put_node(replace(view, spec=EdgeNodeSpec(), generation=view.generation + 1))
        if not self.operator.alive:
            self.operator.start()
        self.relist()
        for _ in range(PATIENCE):
            self.settle()
            if self.is_done():
                break
            self.advance(INTERVAL / 2)
        assert self.is_done(), f"stuck: {self.stuck()}"
        self._stays_quiet()

    def stuck(self) -> list[object]:
        """The jobs that should have ended, the pods that should, and the manifests and copies that wait."""
        jobs = [job for job in self.api.jobs.values() if self._may_end(job) and not is_finished(job)]
        pods = [pod for pod in self.api.pods.values() if not pod.ended or pod.deleting]
        waiting = {job.uid for job in self.api.jobs.values() if not is_finished(job)}
        manifests = [one for one in self.gateway.pending.values() if one.job_uid not in waiting]
        volumes = [volume for device in self.devices.values() for volume in device.volumes.values()]
        copies = [volume for volume in volumes if volume.kept and volume.pod.job_uid not in waiting]
        return [*jobs, *pods, *manifests, *copies]

    def is_done(self) -> bool:
        return not self.stuck()

    def _may_end(self, job: JobView) -> bool:
        """Whether nothing of its own keeps the job from ending."""
        there = Key("demo", job.spec.app_ref.name) in APPS
        return job.spec.cancel or (there and not job.spec.suspend)

    def _is_lost(self, pod_uid: str) -> bool:
        """Whether both that held its results have lost them: the gateway, and then the device its disk."""
        return pod_uid in self.gateway.forgotten and any(pod_uid in device.wiped for device in self.devices.values())

    def _stays_quiet(self) -> None:
        for job in self.api.jobs.values():
            results = job.status.results
            if holds(job.status.conditions, "Complete") and results and results.pod_uid:
                if self._is_lost(results.pod_uid):
                    continue
                assert self.gateway.published.get(job.uid) == results.pod_uid, f"{job.key}: its results were set aside"
                assert self.gateway.told[results.pod_uid] is wire.Verdict.PUBLISHED
        idle = {key for key, job in self.api.jobs.items() if is_finished(job)}
        for beat in range(30):
            if beat == 18:  # by then a suspended job has heard of its results too
                idle |= {key for key, job in self.api.jobs.items() if job.spec.suspend}
            self.advance(INTERVAL / 2)
            for action in self.settle():
                match action:
                    case PatchStatus(plural="edgejobs", key=key):
                        assert key not in idle, f"{key} is written although nothing happens"
                    case CreatePod(job=key):
                        raise AssertionError(f"{key} starts again")
                    case CreateRun() | PatchSpec():
                        raise AssertionError(f"a set does something again: {action}")
                    case _:
                        pass  # pods that have been kept for long enough go, devices' scores move


def is_finished(job: JobView) -> bool:
    return holds(job.status.conditions, "Finished")


VERBS: Final[dict[Verb, Callable[[Simulation], None]]] = {
    Verb.APPLY_JOB: Simulation.apply_job,
    Verb.APPLY_SET: Simulation.apply_set,
    Verb.DELETE_JOB: Simulation.delete_job,
    Verb.RECREATE_JOB: Simulation.recreate_job,
    Verb.SUSPEND: lambda sim: sim._edit(suspend=True),
    Verb.RESUME: lambda sim: sim._edit(suspend=False),
    Verb.CANCEL: lambda sim: sim._edit(cancel=True),
    Verb.REPRIORITIZE: lambda sim: sim._edit(priority=sim.rng.choice((-5, 5))),
    Verb.DELETE_POD: Simulation.delete_pod,
    Verb.EDIT_NODE: Simulation.edit_node,
    Verb.CORDON: Simulation.cordon,
    Verb.CROWD: Simulation.crowd,
    Verb.REFUSE_PODS: Simulation.refuse_pods,
    Verb.POWER_OFF: lambda sim: sim.power(on=False),
    Verb.POWER_ON: lambda sim: sim.power(on=True),
    Verb.REBOOT: Simulation.reboot,
    Verb.WIPE: lambda sim: sim.device().wipe(),
    Verb.UNPLUG: lambda sim: setattr(sim.device(), "connected", False),
    Verb.PLUG: lambda sim: setattr(sim.device(), "connected", True),
    Verb.CUT_HOME: Simulation.cut_home,
    Verb.DECLARE_LOST: Simulation.declare_lost,
    Verb.AGENT: lambda sim: sim.toggle("agent"),
    Verb.KUBELET: lambda sim: sim.toggle("kubelet"),
    Verb.HEAT: Simulation.heat,
    Verb.GATEWAY: Simulation.gateway_fails,
    Verb.RESTORE: lambda sim: sim.gateway.restore(sim.rng),
    Verb.HANG_WATCHES: Simulation.hang_watches,
    Verb.LOSE_EVENTS: Simulation.lose_events,
    Verb.RELIST: Simulation.relist,
    Verb.CRASH: lambda sim: sim.operator.crash(),
    Verb.CRASH_MIDWAY: Simulation.crash_midway,
    Verb.FLAKY_PASS: lambda sim: sim.once(sim._fate),
    Verb.SLOW_PASS: lambda sim: sim.once(sim._fate, slow=True),
    Verb.PASS: Simulation.undisturbed,
    Verb.WAIT: lambda sim: sim.advance(timedelta(seconds=sim.rng.choice((3, 10)))),
    Verb.WAIT_LONG: lambda sim: sim.advance(timedelta(seconds=60)),
}
