"""The store against a model of it: uploads of two attempts of one job, crashes at any point, verdicts in any order.

The model holds what must survive: the bytes that were committed, the manifests that were written, the one attempt that
is published. Any step may be killed before any of its changes to the disk; the store is then opened anew and the step
done again, as agents, operator and rounds do. A crash between steps leaves what a power cut may leave on the disk.
"""

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from edgewise.gateway.records import AlreadyComplete, BytesMissing, JobIdentity, NoPlan, sizes_of
from edgewise.gateway.store import Store
from edgewise_agent.wire import Manifest, PlannedFile, UploadPlan
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.gateway.surroundings import JOB_UID, OTHER_POD_UID, POD_UID, sha256
from tests.gateway.test_store_crashes import Crash, Disk

JOB = JobIdentity(uid=JOB_UID, namespace="demo", name="faces", created_at=datetime(2026, 1, 1, tzinfo=UTC))
NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONTENTS = (b"", b"photo\n1\n", b"photo\n" + b"12\n" * 40, bytes(range(256)))
NAMES = ("faces.csv", "deep/faces.csv", "raw.bin")

pods = st.sampled_from((POD_UID, OTHER_POD_UID))
contents = st.sampled_from(CONTENTS)
crashes = st.none() | st.integers(0, 30)
"""before which of its changes a step is killed; many steps make fewer"""
Answer = TypeVar("Answer")
files = st.dictionaries(st.sampled_from(NAMES), contents, max_size=2)
logs = st.dictionaries(st.just("app/0.log"), contents, max_size=1)


@dataclass
class Attempt:
    """What must be true of one pod's upload."""

    plan: UploadPlan | None = None
    held: dict[str, bytes] = field(default_factory=dict)
    """committed bytes by the SHA-256 that they are sent under"""
    manifest: Manifest | None = None
    pending: bool = False
    removed: bool = False
    """its content is removed, its manifest stays"""


def plan_for(pod: str, given: dict[str, bytes], said: dict[str, bytes]) -> UploadPlan:
    planned, logs = (
        tuple(PlannedFile(name=n, bytes_=len(c), sha256=sha256(c)) for n, c in sorted(each.items()))
        for each in (given, said)
    )
    number = 1 + (pod != POD_UID)
    return UploadPlan(namespace="demo", job="faces", attempt=number, pod_name="faces-1", files=planned, logs=logs)


class StoreModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.attempts = {POD_UID: Attempt(), OTHER_POD_UID: Attempt()}
        self.stored: set[str] = set()
        """content that is verified and kept for the job"""
        self.published: str | None = None
        self.kept_for: float | None = None
        self.untidy = False
        """whether content may be there that nobody counts on any more, until it is tidied"""
        self.patch = pytest.MonkeyPatch()
        self.disk = Disk(self.patch)
        self.store = self.opened()

    def teardown(self) -> None:
        self.store.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    def opened(self) -> Store:
        store = Store(self.root)
        store.open()
        return store

    def doing(self, crash: int | None, step: Callable[[Store], Answer]) -> Answer:
        """What the step answers, in the end."""
        if crash is not None:
            try:
                with self.disk.crashing_after(crash):
                    return step(self.store)
            except Crash:
                self.store.close()
                self.store = self.opened()
        return step(self.store)

    def offset(self, pod: str, content: bytes) -> int:
        if sha256(content) in self.stored:
            return len(content)
        return len(self.attempts[pod].held.get(sha256(content), b""))

    def used(self) -> set[str]:
        kept = [attempt.manifest or attempt.plan for attempt in self.attempts.values() if not attempt.removed]
        return {sha for plan in kept if plan is not None for sha in sizes_of(plan)}

    def sweep_content(self) -> None:
        """What no attempt and no upload counts on is gone."""
        self.stored &= self.used()
        self.untidy = False

    @rule(pod=pods, given=files, said=logs, crash=crashes)
    def accept(self, pod: str, given: dict[str, bytes], said: dict[str, bytes], crash: int | None) -> None:
        attempt, plan = self.attempts[pod], plan_for(pod, given, said)
        if attempt.manifest is not None:
            same = {(f.name, f.sha256) for f in attempt.manifest.files} == {(f.name, f.sha256) for f in plan.files}
            try:
                status = self.store.staging.accept(JOB, pod, "edge-1", plan)
            except AlreadyComplete:
                assert not same
            else:
                assert same
                assert status.complete
            return
        status = self.doing(crash, lambda store: store.staging.accept(JOB, pod, "edge-1", plan))
        wanted = sizes_of(plan)
        self.untidy |= attempt.plan is not None and not self.stored.isdisjoint(sizes_of(attempt.plan).keys() - wanted)
        attempt.plan = plan
        attempt.held = {name: held for name, held in attempt.held.items() if name in wanted}
        contents = (*given.values(), *said.values())
        expected = {sha256(c): self.offset(pod, c) for c in contents if self.offset(pod, c) < len(c)}
        assert {blob.sha256: blob.offset for blob in status.missing} == expected

    def to_send(self, pod: str, content: bytes) -> bool:
        plan = self.attempts[pod].plan
        planned = plan is not None and sha256(content) in sizes_of(plan)
        return planned and self.offset(pod, content) < len(content)

    def sendable(self) -> list[tuple[str, bytes]]:
        return [(pod, content) for pod in self.attempts for content in CONTENTS if self.to_send(pod, content)]

    @precondition(lambda self: self.sendable())
    @rule(data=st.data(), whole=st.booleans(), right=st.sampled_from((True, True, False)), crash=crashes)
    def send(self, data: st.DataObject, whole: bool, right: bool, crash: int | None) -> None:
        pod, content = data.draw(st.sampled_from(self.sendable()))
        name = sha256(content)
        offset = self.offset(pod, content)
        part = content[offset:] if whole else content[offset : offset + 5]
        part = part if right else bytes(byte ^ 1 for byte in part)

        def step(store: Store) -> None:
            with store.staging.append(JOB_UID, pod, name) as writer:
                assert writer.committed in (offset, offset + len(part)), "a commit is there as a whole, or not"
                writer.write(part[writer.committed - offset :])
                assert writer.commit() == offset + len(part)

        self.doing(crash, step)
        self.attempts[pod].held[name] = self.attempts[pod].held.get(name, b"") + part

    @precondition(lambda self: self.sendable())
    @rule(data=st.data())
    def send_without_commit(self, data: st.DataObject) -> None:
        pod, content = data.draw(st.sampled_from(self.sendable()))
        with self.store.staging.append(JOB_UID, pod, sha256(content)) as writer:
            writer.write(content[writer.committed :])

    @rule(pod=pods, content=contents, garbage=st.binary(max_size=20))
    def crash(self, pod: str, content: bytes, garbage: bytes) -> None:
        """The bytes file may be longer than what was synced, and scratch files may be left."""
        self.store.close()
        part = self.root / "staging" / JOB_UID / pod / f"{sha256(content)}.part"
        if part.exists():
            with part.open("ab") as file:
                file.write(garbage)
        (self.root / "scratch" / "half-written").write_bytes(garbage)
        self.store = self.opened()
        assert not list((self.root / "scratch").iterdir())

    def is_damaged(self, pod: str) -> bool:
        """Whether something was sent that is not what it claims to be."""
        held = self.attempts[pod].held
        return any(not content.startswith(held.get(sha256(content), b"")) for content in CONTENTS)

    @rule(pod=pods, crash=crashes)
    def complete(self, pod: str, crash: int | None) -> None:
        attempt = self.attempts[pod]
        if attempt.manifest is None and attempt.plan is None:
            try:
                self.store.staging.complete(JOB_UID, pod, NOW, threading.Event())
            except NoPlan:
                return
            raise AssertionError("completed what has no plan")
        if self.is_damaged(pod):
            crash = None  # what is asked for again then comes in two answers
        try:
            manifest = self.doing(crash, lambda store: store.staging.complete(JOB_UID, pod, NOW, threading.Event()))
        except BytesMissing as missing:
            self.check_missing(pod, {blob.sha256: blob.offset for blob in missing.blobs})
            return
        if attempt.manifest is not None:
            assert manifest == attempt.manifest
            return
        assert attempt.plan is not None
        by_name = {sha256(content): content for content in CONTENTS}
        assert [(f.name, f.bytes_, f.sha256) for f in manifest.files] == [
            (f.name, f.bytes_, f.sha256) for f in attempt.plan.files
        ]
        for file in manifest.files:
            text = by_name[file.sha256]
            decodable = file.name.endswith(".csv") and text != CONTENTS[3]
            assert file.rows == (max(0, text.count(b"\n") - 1) if decodable else None)
        assert [(log.name, log.bytes_, log.sha256, log.rows) for log in manifest.logs] == [
            (log.name, log.bytes_, log.sha256, None) for log in attempt.plan.logs
        ]
        self.stored |= sizes_of(manifest).keys()
        self.attempts[pod] = Attempt(manifest=manifest, pending=True)

    def check_missing(self, pod: str, missing: dict[str, int]) -> None:
        """Short blobs are named with their offset; if none is short, the wrong ones begin anew and the rest is kept."""
        attempt = self.attempts[pod]
        assert attempt.plan is not None
        by_name = {sha256(content): content for content in CONTENTS}
        wanted = {sha: by_name[sha] for sha in sizes_of(attempt.plan)}
        short = {name: self.offset(pod, c) for name, c in wanted.items() if self.offset(pod, c) < len(c)}
        if short:
            assert missing == short
            return
        wrong = {n for n, c in wanted.items() if n not in self.stored and attempt.held.get(n, b"") != c}
        assert missing == dict.fromkeys(wrong, 0)
        for name in wanted:
            attempt.held.pop(name, None)
        self.stored |= wanted.keys() - wrong

    @rule(pod=pods, verdict=st.sampled_from(("publish", "set aside", "remove")), crash=crashes)
    def settle(self, pod: str, verdict: str, crash: int | None) -> None:
        attempt = self.attempts[pod]
        if attempt.manifest is None:
            return
        if verdict == "publish":
            self.doing(crash, lambda store: store.results.publish(JOB_UID, pod, NOW))
            self.published = pod
        elif verdict == "set aside":
            self.doing(crash, lambda store: store.results.set_aside(JOB_UID, pod, NOW))
        else:
            self.doing(crash, lambda store: store.results.remove(JOB_UID, pod))
            self.attempts[pod] = Attempt()
            if self.published == pod:
                self.published = None
            self.sweep_content()
        self.attempts[pod].pending = False

    @precondition(lambda self: any(attempt.plan for attempt in self.attempts.values()))
    @rule(pod=pods, crash=crashes)
    def discard(self, pod: str, crash: int | None) -> None:
        self.doing(crash, lambda store: store.staging.discard(JOB_UID, pod))
        if self.attempts[pod].manifest is None:
            self.attempts[pod] = Attempt()
        self.sweep_content()

    def anything(self) -> bool:
        """Whether the job is known here."""
        return any(attempt.plan or attempt.manifest for attempt in self.attempts.values())

    @rule(pod=pods, crash=crashes)
    def expire(self, pod: str, crash: int | None) -> None:
        attempt = self.attempts[pod]

        def step(store: Store) -> None:
            store.results.expire(JOB_UID, pod, NOW, "Its time is over.")
            store.results.tidy(JOB_UID)

        self.doing(crash, step)
        if attempt.manifest is not None and not attempt.removed:
            attempt.removed = self.untidy = True
        self.tidied()

    @rule(seconds=st.sampled_from((None, 3600.0)), crash=crashes)
    def keep_for(self, seconds: float | None, crash: int | None) -> None:
        self.doing(crash, lambda store: store.results.keep_for(JOB_UID, seconds))
        self.kept_for = seconds if self.anything() else None

    @rule(crash=crashes)
    def tidy(self, crash: int | None) -> None:
        self.doing(crash, lambda store: store.results.tidy(JOB_UID))
        self.tidied()

    def tidied(self) -> None:
        """A round has passed."""
        if self.untidy:
            self.sweep_content()

    @rule(crash=crashes)
    def forget(self, crash: int | None) -> None:
        def step(store: Store) -> None:
            store.results.forget(JOB_UID)
            store.results.tidy(JOB_UID)

        self.doing(crash, step)
        home = {pod: attempt for pod, attempt in self.attempts.items() if attempt.manifest is not None}
        if home and all(attempt.removed for attempt in home.values()):
            self.attempts |= {pod: Attempt() for pod in home}
            self.published = None
            self.sweep_content()
        self.tidied()

    @invariant()
    def the_disk_says_the_same(self) -> None:
        for pod, attempt in self.attempts.items():
            assert self.store.results.manifest(JOB_UID, pod) == attempt.manifest
            for content in CONTENTS:
                if attempt.plan and sha256(content) in sizes_of(attempt.plan):
                    assert self.store.staging.offset(JOB_UID, pod, sha256(content)) == self.offset(pod, content)
        published = self.attempts[self.published].manifest if self.published else None
        assert self.store.results.published(JOB_UID) == published
        here = published is not None and self.published is not None and not self.attempts[self.published].removed
        for file in published.files if published is not None and here else ():
            with self.store.results.open_blob(JOB_UID, file.sha256) as blob:
                assert hashlib.sha256(blob.read()).hexdigest() == file.sha256
        expected = {(JOB_UID, pod) for pod, attempt in self.attempts.items() if attempt.pending}
        assert set(self.store.results.pending()) == expected
        anything = self.anything()
        self.kept_for = self.kept_for if anything else None
        assert self.store.results.kept_for(JOB_UID) == self.kept_for
        for pod, attempt in self.attempts.items():
            assert (self.store.results.removed(JOB_UID, pod) is not None) == attempt.removed
        settled = {pod for pod, one in self.attempts.items() if one.manifest and not one.pending and not one.removed}
        assert {attempt.pod_uid for attempt in self.store.results.expirable(JOB_UID)} == settled
        sizes = {sha256(content): len(content) for content in CONTENTS}
        everybody = frozenset((JOB_UID, pod) for pod in self.attempts)
        assert self.store.results.held_bytes("demo", everybody) == sum(sizes[name] for name in self.stored)
        assert self.store.results.newest("demo", "faces") == (JOB_UID if anything else None)
        assert (self.store.results.job(JOB_UID) is not None) == anything


TestStore = StoreModel.TestCase
TestStore.settings = settings(max_examples=100, stateful_step_count=30)
