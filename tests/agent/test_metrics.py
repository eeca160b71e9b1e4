"""What a device measures, read from fixture trees of /proc and /sys."""

import shutil
from pathlib import Path

import pytest
from edgewise_agent.metrics import Meter, MetricsUnreadable
from edgewise_agent.thermal import hottest_celsius

HOSTS = Path(__file__).parent / "hosts"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of the Raspberry's tree, to be changed."""
    return shutil.copytree(HOSTS / "raspberry", tmp_path / "host")


@pytest.mark.parametrize(("host", "celsius"), [("raspberry", 61.322), ("silent", None), ("broken", None)])
def test_hottest_zone(host: str, celsius: float | None) -> None:
    assert hottest_celsius(HOSTS / host) == celsius


@pytest.mark.parametrize(
    ("reading", "celsius"),
    [("-12000", -12.0), ("105000", 105.0), ("150000", 150.0), ("150001", None), ("-40001", None), ("0", None)],
)
def test_believable_range(tmp_path: Path, reading: str, celsius: float | None) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(f"{reading}\n")
    assert hottest_celsius(tmp_path) == celsius


def test_no_sys_at_all(tmp_path: Path) -> None:
    assert hottest_celsius(tmp_path) is None


def test_sample(host: Path, tmp_path: Path) -> None:
    sample = Meter(host, tmp_path).sample()
    assert sample.memory_available_percent == pytest.approx(100 * 2_719_068 / 3_884_384)
    assert sample.memory_free_bytes == 412_160 * 1024
    assert sample.celsius == 61.322
    assert sample.cpus == 4
    assert sample.disk_free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, abs=2**28)


def test_cpu_is_the_mean_since_the_sample_before(host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("edgewise_agent.metrics.time.monotonic", lambda: now)
    meter = Meter(host, tmp_path)
    since_boot = 100 * (4_302_950 + 9_120) / (181_204 + 312 + 60_231 + 4_302_950 + 9_120 + 1_043)
    assert meter.sample().cpu_free_percent == round(since_boot, 2), "what a beat need not carry is not in it"

    now += 10
    # 700 ticks of work, 200 idle, 100 waiting for the disk (free), 50 as a guest (in user already)
    _advance(host, user=700, idle=200, iowait=100, guest=50)
    assert meter.sample().cpu_free_percent == pytest.approx(30.0)

    now += 0.5
    _advance(host, user=0, idle=1000)
    assert meter.sample().cpu_free_percent == pytest.approx(30.0), "a window this short says nothing"

    now += 10
    _advance(host, user=0, idle=0)
    assert meter.sample().cpu_free_percent == pytest.approx(100.0), "the 1000 idle ticks from before"

    now += 10
    _advance(host, user=100, idle=-50)
    assert meter.sample().cpu_free_percent == 0.0, "a counter that steps back is not negative time"


def test_unreadable_hosts(tmp_path: Path) -> None:
    with pytest.raises(MetricsUnreadable, match="check EDGEWISE_HOST_ROOT"):
        Meter(tmp_path / "nowhere", tmp_path)
    meter = Meter(HOSTS / "broken", tmp_path)
    with pytest.raises(MetricsUnreadable, match=r"broken/proc"):
        meter.sample()


def _advance(host: Path, *, user: int, idle: int, iowait: int = 0, guest: int = 0) -> None:
    path = host / "proc/stat"
    first, rest = path.read_text().split("\n", 1)
    ticks = [int(value) for value in first.split()[1:]]
    # user holds guest's ticks, as in the kernel
    for position, more in ((0, user), (3, idle), (4, iowait), (8, guest)):
        ticks[position] += more
    path.write_text(f"cpu  {' '.join(map(str, ticks))}\n{rest}")
