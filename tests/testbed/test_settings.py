"""What the fleet is asked to be: parsed, kept and read back."""

from pathlib import Path

import pytest

from testbed import FleetError
from testbed.settings import HUB, DeviceSettings, FleetSettings, parse_bytes, parse_percent


@pytest.mark.parametrize(("text", "percent"), [("25%", 25), ("25", 25), ("12.5 %", 12.5), (" 0% ", 0)])
def test_percent(text: str, percent: float) -> None:
    assert parse_percent(text) == percent


@pytest.mark.parametrize("text", ["", "%", "-1%", "a%", "1e3", "25%%"])
def test_no_percent(text: str) -> None:
    with pytest.raises(FleetError, match="no percentage"):
        parse_percent(text)


@pytest.mark.parametrize(("text", "bytes_"), [("1024", 1024), ("2Gi", 2 << 30), ("512M", 512 << 20), ("1KiB", 1024)])
def test_bytes(text: str, bytes_: int) -> None:
    assert parse_bytes(text) == bytes_


@pytest.mark.parametrize("text", ["", "2 gigs", "-1", "1.5Gi"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(FleetError, match="no size"):
        parse_bytes(text)


def test_settings_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    settings = FleetSettings.first().with_device(DeviceSettings("edge-9", 9, quota_percent=10, celsius=60))

    settings.save(tmp_path / "fleet.json")

    assert FleetSettings.load(tmp_path / "fleet.json") == settings
    assert FleetSettings.load(tmp_path / "nothing.json") is None


def test_first_fleet_has_a_hub_and_three_devices_of_falling_speed() -> None:
    devices = FleetSettings.first().devices

    assert list(devices) == ["hub", "edge-1", "edge-2", "edge-3"]
    assert [device.quota_percent for device in devices.values()] == [None, 100, 50, 25]
    assert [device.edge for device in devices.values()] == [False, True, True, True]


def test_addresses_cables_and_ranges_of_devices_never_meet() -> None:
    devices = [HUB, *(DeviceSettings(f"edge-{index}", index) for index in range(1, 100))]

    for attribute in ("address", "cable", "pod_range"):
        assert len({getattr(device, attribute) for device in devices}) == len(devices)
    assert all(len(device.cable) <= 15 for device in devices)
    assert all(DeviceSettings.is_cable(device.cable) for device in devices)
    assert not DeviceSettings.is_cable("edgewise0")


def test_free_index_fills_the_first_gap() -> None:
    settings = FleetSettings.first()

    assert settings.free_index() == 4
    assert settings.with_device(DeviceSettings("edge-4", 4)).free_index() == 5


def test_times_change_where_they_are_given() -> None:
    timed = FleetSettings.first().timed(lease_seconds=4, status_seconds=None)

    assert {device.lease_seconds for device in timed.devices.values()} == {4}
    assert {device.status_seconds for device in timed.devices.values()} == {10}
