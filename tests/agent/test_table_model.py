"""Whatever kubelet, the app, the uploader and the power do, in any order: no file is lost and none is in two places."""

import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from edgewise_agent.journal import Finish
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import LivePods, VolumeTable
from edgewise_agent.wire import VolumeState
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.agent.kubelet import Pod
from tests.agent.test_table import entry

NUMBERS = st.integers(1, 3)


class Volumes(RuleBasedStateMachine):
    """A device and what its files should be: by pod the content that is still to come home."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Path(tempfile.mkdtemp(prefix="ew-", dir="/tmp"))
        (self.device / "pods").mkdir()
        self.settings = replace(
            Settings(
                node_name="edge-1",
                operator_url="https://operator",
                gateway_url="https://gateway",
                ca_file=self.device / "ca",
                token_file=self.device / "token",
            ),
            kubelet_root=self.device,
            free_space_floor_bytes=0,
            reconcile_seconds=1,
        )
        self.written: dict[int, set[str]] = {}
        self.live: set[int] = set()
        self.copies: dict[int, set[str]] = {}
        """by pod the content that is home, of which a copy is kept"""
        self.files = 0
        self.later = time.monotonic()
        self.restart()

    def teardown(self) -> None:
        shutil.rmtree(self.device)

    def pod(self, number: int) -> Pod:
        return Pod(self.device, number)

    @rule()
    def restart(self) -> None:
        """The agent starts anew, with nothing but the disk."""
        self.table = VolumeTable(self.settings, lambda: None)
        self.table.load()
        self.table.spool.sweep()

    @rule(number=NUMBERS)
    def publish(self, number: int) -> None:
        pod = self.pod(number)
        pod.prepare()
        self.table.publish(entry(pod))
        self.live.add(number)
        self.copies.pop(number, None)
        self.written.setdefault(number, set())

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.live)))
        self.files += 1
        name = f"{self.files}.csv"
        (self.pod(number).target / name).write_text(str(number))
        self.written[number].add(name)

    @rule(number=NUMBERS, cleaned=st.booleans())
    def unpublish(self, number: int, cleaned: bool) -> None:
        pod = self.pod(number)
        self.table.unpublish(pod.volume_id, pod.target)
        self.live.discard(number)
        if cleaned and pod.volume_dir.exists():
            pod.clean()

    @rule(number=NUMBERS)
    def power_empties_the_record(self, number: int) -> None:
        if self.pod(number).volume_dir.exists():
            self.pod(number).record.write_bytes(b"")

    @rule(gone=st.sets(NUMBERS))
    def reconcile_twice(self, gone: set[int]) -> None:
        """Two answers a while apart that name the same pods."""
        uids = frozenset(self.pod(number).uid for number in (1, 2, 3) if number not in gone)
        for _ in range(2):
            self.later += 1
            self.table.reconcile(LivePods(uids, self.later))
        self.live -= gone

    @precondition(lambda self: self.table.waiting())
    @rule(acknowledged=st.booleans(), kept=st.booleans())
    def send_the_oldest(self, acknowledged: bool, kept: bool) -> None:
        held = self.table.waiting()[0]
        assert self.table.note_sending(held, 0)
        if acknowledged:
            files = self.table.spool.files(held.entry.volume_id)
            number = int(held.entry.pod_uid.rpartition("-")[2])
            names = self.written.pop(number)
            assert {path.name for path in files.iterdir()} == names
            self.table.finish(held, Finish(state=VolumeState.DONE, kept=kept))
            if kept:
                self.copies[number] = names

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), settled=st.booleans())
    def ask_about_a_copy(self, data: st.DataObject, settled: bool) -> None:
        """The gateway has the operator's decision, or has lost what it acknowledged."""
        held = data.draw(st.sampled_from(self.table.kept()))
        names = self.copies.pop(int(held.entry.pod_uid.rpartition("-")[2]))
        if settled:
            self.table.drop_copy(held)
        else:
            self.table.send_again(held)
            self.written[int(held.entry.pod_uid.rpartition("-")[2])] = names

    @invariant()
    def every_file_is_in_exactly_one_place(self) -> None:
        for number, names in self.written.items():
            pod = self.pod(number)
            spooled = self.table.spool.files(pod.volume_id)
            assert pod.target.is_dir() == (number in self.live)
            assert spooled.is_dir() == (number not in self.live)
            place = pod.target if number in self.live else spooled
            assert {path.name for path in place.iterdir()} == names

    @invariant()
    def every_copy_is_there(self) -> None:
        assert {int(held.entry.pod_uid.rpartition("-")[2]) for held in self.table.kept()} == self.copies.keys()
        for number, names in self.copies.items():
            assert {path.name for path in self.table.spool.files(self.pod(number).volume_id).iterdir()} == names

    @invariant()
    def the_table_says_what_is_on_the_disk(self) -> None:
        states = {report.pod_uid: report.state for report in self.table.reports()}
        for number in self.written:
            live = states[self.pod(number).uid] is VolumeState.LIVE
            assert live == (number in self.live)


Volumes.TestCase.settings = hypothesis_settings(max_examples=40, stateful_step_count=25)
TestVolumes = Volumes.TestCase
