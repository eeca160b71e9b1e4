"""When schedules are due: the forms of a crontab, time zones, daylight saving, and what can't be read."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from edgewise.domain.schedule import Schedule, Unreadable, read
from hypothesis import given
from hypothesis import strategies as st


def readable(schedule: str, time_zone: str | None = None) -> Schedule:
    found = read(schedule, time_zone)
    assert isinstance(found, Schedule), found
    return found


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(schedule: str, time_zone: str | None, after: str, count: int) -> list[str]:
    """The next scheduled times as a clock there shows them, with its offset."""
    found, time, shown = readable(schedule, time_zone), utc(after), []
    for _ in range(count):
        following = found.next(time)
        assert following is not None
        assert following > time
        time = following
        shown.append(time.astimezone(found.zone).strftime("%m-%d %H:%M %z"))
    return shown


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        ("*/20 * * * *", ["03-01 12:20", "03-01 12:40", "03-01 13:00"]),
        ("5 4 * * *", ["03-02 04:05", "03-03 04:05"]),
        ("0 9 * * 1-5", ["03-02 09:00", "03-03 09:00"]),
        ("0 9 * * MON,Fri", ["03-02 09:00", "03-06 09:00"]),
        ("0 0 1 jan-mar *", ["01-01 00:00", "02-01 00:00", "03-01 00:00"]),
        ("0 0 13 * 5", ["03-06 00:00", "03-13 00:00", "03-20 00:00"]),
        ("0 0 * * 7", ["03-08 00:00"]),
        ("0 0 ? * 0", ["03-08 00:00"]),
        ("10-14/2 12 * * *", ["03-01 12:10", "03-01 12:12", "03-01 12:14", "03-02 12:10"]),
        ("0 0 L * *", ["03-31 00:00", "04-30 00:00"]),
        ("0 0 * * 1#2", ["03-09 00:00", "04-13 00:00"]),
        ("  0   0 1 *  * ", ["04-01 00:00"]),
        ("@hourly", ["03-01 13:00", "03-01 14:00"]),
        ("@daily", ["03-02 00:00"]),
        ("@midnight", ["03-02 00:00"]),
        ("@Weekly", ["03-08 00:00"]),
        ("@monthly", ["04-01 00:00"]),
        ("@yearly", ["01-01 00:00"]),
        ("@annually", ["01-01 00:00"]),
    ],
)
def test_forms_of_a_schedule(schedule: str, times: list[str]) -> None:
    assert runs(schedule, None, "2026-03-01 12:00", len(times)) == [f"{time} +0000" for time in times]


def test_leap_days() -> None:
    found, times, time = readable("30 6 29 2 *"), [], utc("2026-01-01")
    for _ in range(3):
        following = found.next(time)
        assert following is not None
        time = following
        times.append(time)
    assert times == [utc("2028-02-29 06:30"), utc("2032-02-29 06:30"), utc("2036-02-29 06:30")]


DAYLIGHT = [
    # the clocks skip an hour: once, at the end of the gap
    ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
    ("30 2 * * *", "America/New_York", "2026-03-07 12:00", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 05:00", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
    # the clocks repeat an hour: once, the first time
    ("30 2 * * *", "Europe/Berlin", "2026-10-24 12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
    ("30 1 * * *", "America/New_York", "2026-10-31 12:00", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04 05:00", ["04-05 01:45 +1100", "04-06 01:45 +1030"]),
    # … and it is not run the second time, when it was made in between
    ("45 2 * * *", "Europe/Berlin", "2026-10-25 01:30", ["10-26 02:45 +0100"]),
    # intervals: as the clock shows, so neither a gap nor a repetition bends them
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29 00:15", ["03-29 01:30 +0100", "03-29 03:00 +0200"]),
    ("0 * * * *", "Europe/Berlin", "2026-10-24 23:30", ["10-25 02:00 +0200", "10-25 02:00 +0100", "10-25 03:00 +0100"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", ["03-30 02:00 +0200"]),
    ("*/30 1 * * *", "America/New_York", "2026-11-01 05:10", ["11-01 01:30 -0400", "11-01 01:00 -0500"]),
    ("*/15 * * * *", "Australia/Lord_Howe", "2026-10-03 15:20", ["10-04 02:30 +1100", "10-04 02:45 +1100"]),
    ("*/15 3 * * *", "Australia/Lord_Howe", "2026-10-03 12:00", ["10-04 03:00 +1100", "10-04 03:15 +1100"]),
    ("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04 14:50", ["04-05 01:30 +1030", "04-05 01:45 +1030"]),
]


@pytest.mark.parametrize(("schedule", "time_zone", "after", "times"), DAYLIGHT)
def test_daylight_saving(schedule: str, time_zone: str, after: str, times: list[str]) -> None:
    assert runs(schedule, time_zone, after, len(times)) == times


CHANGES = (
    ("Europe/Berlin", "2026-03-28"),
    ("Europe/Berlin", "2026-10-24"),
    ("America/New_York", "2026-03-07"),
    ("America/New_York", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-04-04"),
    ("Australia/Lord_Howe", "2026-10-03"),
    ("Asia/Kolkata", "2026-06-01"),
)


@given(
    change=st.sampled_from(CHANGES),
    schedule=st.sampled_from(
        ("* * * * *", "*/7 * * * *", "0 * * * *", "*/15 2 * * *", "* 3 * * *", "15 */2 * * *", "* 0 * * 0")
    ),
    begin=st.integers(0, 3 * 86_400),
    length=st.integers(0, 2 * 86_400),
)
def test_intervals_are_what_the_clock_shows(change: tuple[str, str], schedule: str, begin: int, length: int) -> None:
    """Against a clock that is looked at each minute."""
    time_zone, day = change
    found, zone, fields = readable(schedule, time_zone), ZoneInfo(time_zone), CronSim(schedule, datetime(2026, 1, 1))  # noqa: DTZ001
    after = utc(day) + timedelta(seconds=begin)
    until = after + timedelta(seconds=length)
    shown, minute = [], after.replace(second=0) + timedelta(minutes=1)
    while minute <= until:
        local = minute.astimezone(zone)
        if local.minute in fields.minutes and local.hour in fields.hours and fields.match_day(local.date()):
            shown.append(minute)
        minute += timedelta(minutes=1)
    assert found.latest(after, until) == (shown[-1] if shown else None)
    assert found.count(after, until, 100) == min(101, len(shown))
    first = found.next(after)
    assert first is not None
    assert (first in shown[:1]) if shown else first > until


def test_the_latest_of_a_year_is_found_at_once() -> None:
    after, until = utc("2025-03-01 00:00"), utc("2026-03-01 12:00:59")
    assert readable("* * * * *", "Europe/Berlin").latest(after, until) == utc("2026-03-01 12:00")
    assert readable("@yearly").latest(after, until) == utc("2026-01-01")
    assert readable("@yearly").latest(after, utc("2025-12-31 23:59")) is None


@pytest.mark.parametrize(
    ("schedule", "time_zone", "reason", "says"),
    [
        ("61 * * * *", None, "ScheduleUnreadable", "spec.schedule '61 * * * *' can't be read: correct its minute"),
        ("0 5-3 * * *", None, "ScheduleUnreadable", "correct its hour"),
        ("0 0 32 2 *", None, "ScheduleUnreadable", "correct its day of month"),
        ("0 0 31 13 *", None, "ScheduleUnreadable", "correct its month"),
        ("0 0 30 2 *", None, "NeverDue", "spec.schedule '0 0 30 2 *' is never due: no such day comes within 50 years"),
        ("0 0 31 2,4,jun *", None, "NeverDue", "is never due"),
        ("0 0 * * mond", None, "ScheduleUnreadable", "correct its day of week"),
        ("* * * *", None, "ScheduleUnreadable", "write five fields"),
        ("0 * * * * *", None, "ScheduleUnreadable", "write five fields"),
        ("@every 5m", None, "ScheduleUnreadable", "write five fields"),
        ("CRON_TZ=UTC 0 0 * * *", None, "ScheduleUnreadable", "write five fields"),
        ("* * */20 * 1L", None, "NeverDue", "is never due"),
        ("@daily", "Mars/Olympus", "UnknownTimeZone", "spec.timeZone 'Mars/Olympus' is not in the time zone database"),
        ("@daily", "Europe", "UnknownTimeZone", "write a name such as Europe/Berlin or UTC"),
        ("@daily", "Local", "UnknownTimeZone", "'Local'"),
        ("@daily", "localtime", "UnknownTimeZone", "'localtime'"),
    ],
)
def test_what_can_not_be_read_is_named_with_a_remedy(
    schedule: str, time_zone: str | None, reason: str, says: str
) -> None:
    found = read(schedule, time_zone)
    assert isinstance(found, Unreadable)
    assert found.reason == reason
    assert says in found.message


def test_a_schedule_without_time_zone_is_in_utc() -> None:
    assert readable("@daily").text == "0 0 * * * UTC"
    assert readable("@daily") == readable(" 0 0 * *  *", "UTC")
    assert readable("@daily", "Europe/Berlin").next(utc("2026-03-01")) == utc("2026-03-01 23:00")
