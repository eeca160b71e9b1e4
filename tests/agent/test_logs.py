"""What an attempt's containers said, on its way from kubelet's folder to the spool."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from edgewise_agent.collect import collect_logs
from edgewise_agent.logs import MOST_LOGS, keep_logs
from edgewise_agent.settings import Settings
from edgewise_agent.volumes.table import LivePods, VolumeTable
from edgewise_agent.wire import VolumeState
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.kubelet import Pod
from tests.agent.test_table import publish, states


@pytest.fixture
def pod(settings: Settings) -> Pod:
    return Pod(settings.kubelet_root)


def kept(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def logs(tmp_path: Path, **files: str) -> tuple[Path, Path]:
    """A pod's folder with `files` (`app__0_log` is app/0.log), and where to keep them."""
    source, target = tmp_path / "pod", tmp_path / "spool/volume/logs"
    for name, text in files.items():
        path = source / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source, target


def test_short_logs_are_kept_whole(tmp_path: Path) -> None:
    source, target = logs(tmp_path, app__0_log="one\ntwo\n", app__1_log="three\n", init__0_log="", app__notes_txt="no")
    assert keep_logs(source, target, 100) == 3
    assert kept(target) == {"app/0.log": "one\ntwo\n", "app/1.log": "three\n", "init/0.log": ""}
    assert [(file.name, file.bytes_) for file in collect_logs(target)] == [
        ("app/0.log", 8),
        ("app/1.log", 6),
        ("init/0.log", 0),
    ]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (8, "# 4 bytes of older log were left out on the device\nc\nd\ne\nf\n"),
        (7, "# 6 bytes of older log were left out on the device\nd\ne\nf\n"),
        (3, "# 10 bytes of older log were left out on the device\nf\n"),
        (1, "# 12 bytes of older log were left out on the device\n"),
        (12, "a\nb\nc\nd\ne\nf\n"),
    ],
)
def test_the_newest_whole_lines_of_a_long_log_are_kept(tmp_path: Path, limit: int, expected: str) -> None:
    source, target = logs(tmp_path, app__0_log="a\nb\nc\nd\ne\nf\n")
    keep_logs(source, target, limit)
    assert kept(target) == {"app/0.log": expected}


def test_rotated_parts_are_put_in_order(tmp_path: Path) -> None:
    parts = {
        "app/0.log": "e\nf\n",
        "app/0.log.20260102-000000": "c\nd\n",
        "app/0.log.20260101-000000": "a\nb\n",
        "app/0.log.20251231-000000.gz": "not read",
    }
    source, target = logs(tmp_path)
    (source / "app").mkdir(parents=True)
    for name, text in parts.items():
        (source / name).write_text(text)
    keep_logs(source, target, 100)
    assert kept(target)["app/0.log"] == (
        "# 0 bytes and 1 compressed files of older log were left out on the device\na\nb\nc\nd\ne\nf\n"
    )
    keep_logs(source, target, 6)
    assert kept(target)["app/0.log"] == (
        "# 6 bytes and 1 compressed files of older log were left out on the device\nd\ne\nf\n"
    )


@given(
    lines=st.lists(st.text("xyz", max_size=9), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=3),
    limit=st.integers(1, 300),
)
def test_what_is_kept_is_always_the_end_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[int], limit: int
) -> None:
    source, target = logs(tmp_path_factory.mktemp("logs"))
    (source / "app").mkdir(parents=True)
    text = "".join(f"{line}\n" for line in lines)
    bounds = [0, *sorted(min(cut, len(lines)) for cut in cuts), len(lines)]
    for number, (begin, end) in enumerate(pairwise(bounds)):
        name = "0.log" if number == len(bounds) - 2 else f"0.log.20260101-00000{number}"
        (source / "app" / name).write_text("".join(f"{line}\n" for line in lines[begin:end]))
    keep_logs(source, target, limit)
    content = kept(target)["app/0.log"]
    if content.startswith("#"):
        first, _, content = content.partition("\n")
        assert int(first.split()[1]) == len(text) - len(content)
    else:
        assert content == text
    assert text.endswith(content)
    assert len(content) <= limit
    longest_line = 10
    assert len(content) >= min(len(text), limit - longest_line), "more was cut than the limit asks for"


def test_the_limit_is_for_all_starts_of_a_container(tmp_path: Path) -> None:
    source, target = logs(tmp_path, app__0_log="older\n", app__1_log="newer\n", other__0_log="other\n")
    keep_logs(source, target, 6)
    assert kept(target) == {"app/1.log": "newer\n", "other/0.log": "other\n"}


def test_the_newest_start_of_each_container_comes_first(tmp_path: Path) -> None:
    source, target = logs(tmp_path, **{f"app__{number}_log": f"{number}\n" for number in range(30)}, init__0_log="i\n")
    assert keep_logs(source, target, 1000) == MOST_LOGS
    assert "init/0.log" in kept(target)
    assert "app/29.log" in kept(target)
    assert "app/14.log" not in kept(target)


def test_hostile_folders_give_nothing_of_the_device(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "app").mkdir(parents=True)
    (outside / "app/0.log").write_text("secret\n")
    (outside / "1.log").write_text("secret\n")
    source, target = logs(tmp_path, good__0_log="good\n")
    (source / "link").symlink_to(outside / "app")
    (source / "app").mkdir()
    (source / "app/0.log").symlink_to(outside / "app/0.log")
    os.link(outside / "1.log", source / "app/1.log")
    os.mkfifo(source / "app/2.log")
    os.mknod(source / "app/3.log", 0o666 | 0o020000, os.makedev(1, 5))
    for name in ("app/x.log", "app/4.log.evil", "app/01.log", "app/0.log.gz", "-app-", "0.log"):
        (source / name).write_text("odd\n")
    (source / ("x" * 64)).mkdir()
    (source / ("x" * 64) / "0.log").write_text("odd\n")
    assert keep_logs(source, target, 1000) == 1
    assert kept(target) == {"good/0.log": "good\n"}

    linked = tmp_path / "linked"
    linked.symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        keep_logs(linked, target, 1000)


def test_a_log_that_turns_into_a_link_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = logs(tmp_path, app__0_log="mine\n")
    (tmp_path / "secret").write_text("secret\n")
    monkeypatch.setattr("edgewise_agent.logs.open_below", lambda root, name: os.open(tmp_path / "secret", os.O_RDONLY))
    os.link(tmp_path / "secret", tmp_path / "second name")
    with pytest.raises(OSError, match="no regular file with one name any more"):
        keep_logs(source, target, 1000)
    assert "secret" not in "".join(kept(target).values())


def test_nothing_was_said(tmp_path: Path) -> None:
    source, target = logs(tmp_path)
    assert keep_logs(source, target, 1000) == 0
    assert collect_logs(target) == ()


def test_unpublish_takes_the_logs_before_kubelet_removes_them(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod, a_csv="12345")
    pod.say(settings.pod_logs, "working\n")
    table.unpublish(pod.volume_id, pod.target)
    assert kept(table.spool.logs(pod.volume_id)) == {"app/0.log": "working\n"}
    (held,) = table.unmeasured()
    table.note_size(held, table.spool.size(held.entry.volume_id))
    assert table.usage().bytes_ == 13, "logs fill the spool, too"


def test_logs_kept_once_outlive_kubelets(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod)
    pod.say(settings.pod_logs, "first\n")
    table.unpublish(pod.volume_id, pod.target)
    publish(table, pod)
    (pod.log_folder(settings.pod_logs) / "app/0.log").unlink()
    table.unpublish(pod.volume_id, pod.target)
    assert kept(table.spool.logs(pod.volume_id)) == {"app/0.log": "first\n"}


def test_what_kubelet_left_behind_brings_its_logs(table: VolumeTable, pod: Pod, settings: Settings) -> None:
    publish(table, pod)
    pod.say(settings.pod_logs, "cut off\n")
    since = table._volumes[pod.volume_id].since
    table.reconcile(LivePods(frozenset(), since + 1))
    table.reconcile(LivePods(frozenset(), since + 2.5))
    assert states(table) == [VolumeState.SPOOLED]
    assert kept(table.spool.logs(pod.volume_id)) == {"app/0.log": "cut off\n"}


def test_results_never_wait_for_logs(
    table: VolumeTable, pod: Pod, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publish(table, pod, a_csv="1")
    pod.say(settings.pod_logs, "working\n")
    table.spool.logs(pod.volume_id).parent.mkdir()
    table.spool.logs(pod.volume_id).write_text("in the way")
    table.unpublish(pod.volume_id, pod.target)
    assert "logs of pod demo/faces-3f2a1-1 can't be kept" in caplog.text
    assert (table.spool.files(pod.volume_id) / "a.csv").read_text() == "1"
