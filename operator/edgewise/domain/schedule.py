"""When a schedule is due: a crontab's five fields in a time zone, across daylight saving.

Owns the arithmetic of scheduled times and knows no EdgeCronJob. Scheduled times are aware UTC in whole minutes.

Daylight saving is dealt with as in Debian's cron. Where both the minute and the hour are numbers, every day has its
run: one that the clocks skip starts at the end of the gap, one that they repeat starts the first time only. Where
either begins with `*`, what counts is what the clock on the wall shows: a minute that does not exist is not run, and
one that comes twice is run twice, so that intervals stay what they are.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

HOSTS_OWN: Final = frozenset({"localtime", "posixrules"})
"""Names under which a machine's database has its own zone: what they mean would depend on where the operator runs."""

FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""From when on a schedule must be due."""

SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a schedule says nothing: one CamelCase word, and a sentence that names the field and the remedy."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule that has been read. Two of the same text and zone are equal."""

    expression: str
    """five fields"""
    zone: ZoneInfo

    @property
    def text(self) -> str:
        """Expression and zone, to tell one schedule from another."""
        return f"{self.expression} {self.zone.key}"

    def next(self, after: datetime) -> datetime | None:
        """The first scheduled time later than `after`; None if there is none within 50 years."""
        return _next(self, after)

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last scheduled time later than `after` and not later than `until`, by bisection: a year is 20 steps."""
        found = self.next(after)
        if found is None or found > until:
            return None
        low, high = found, until
        while high - low >= MINUTE:
            middle = low + (high - low) // SECOND // 2 * SECOND
            found = self.next(middle)
            if found is not None and found <= until:
                low = found
            else:
                high = middle
        return low

    def count(self, after: datetime, until: datetime, most: int) -> int:
        """How many scheduled times are later than `after` and not later than `until`; `most` + 1 stands for more."""
        total, time = 0, self.next(after)
        while time is not None and time <= until and total <= most:
            total, time = total + 1, self.next(time)
        return total


@lru_cache(maxsize=1024)
def read(schedule: str, time_zone: str | None) -> Schedule | Unreadable:
    """The schedule of `spec.schedule` and `spec.timeZone`, or why they can't be read."""
    words = schedule.strip().lower()
    expression = NICKNAMES.get(words, " ".join(words.replace("?", "*").split()))
    unreadable = f"spec.schedule {schedule!r} can't be read"
    if len(expression.split(" ")) != 5:
        return Unreadable(
            "ScheduleUnreadable",
            f"{unreadable}: write five fields (minute, hour, day of the month, month, day of the week) such as "
            f"`30 2 * * 1-5`, or one of {', '.join(NICKNAMES)}",
        )
    zone = _zone(time_zone or "UTC")
    if zone is None:
        remedy = "write a name such as Europe/Berlin or UTC"
        return Unreadable("UnknownTimeZone", f"spec.timeZone {time_zone!r} is not in the time zone database: {remedy}")
    if field := _wrong(expression):
        return Unreadable("ScheduleUnreadable", f"{unreadable}: correct its {field}")
    found = Schedule(expression, zone)
    if not _has_day(found):
        return Unreadable("NeverDue", f"spec.schedule {schedule!r} is never due: no such day comes within 50 years")
    return found


def _wrong(expression: str) -> str | None:
    """The first field that can't be read, each by itself: with a month that has every day."""
    minute, hour, day, month, weekday = expression.split(" ")
    for each in (f"{minute} {hour} {day} 1 {weekday}", f"* * * {month} *"):
        try:
            CronSim(each, FIRST)
        except CronSimError as error:
            return str(error).removeprefix("Bad ").replace("-", " ")
    return None


def _has_day(schedule: Schedule) -> bool:
    """Whether the schedule is ever due. cronsim refuses a day that no such month has, and else looks for 50 years."""
    try:
        return schedule.next(FIRST) is not None
    except CronSimError:
        return False


def _zone(name: str) -> ZoneInfo | None:
    """A zone of the IANA database, which is read once a zone: the machine's own, or else the package tzdata."""
    if name in HOSTS_OWN:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@lru_cache(maxsize=8192)
def _next(schedule: Schedule, after: datetime) -> datetime | None:
    minute, hour, *_ = schedule.expression.split(" ")
    if minute.startswith("*") or hour.startswith("*"):
        return _by_the_clock(schedule.expression, schedule.zone, after)
    return _at_fixed_times(schedule.expression, schedule.zone, after)


def _at_fixed_times(expression: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """One run for each day's time, as cronsim has it: moved to the end of a gap, and the first of two."""
    for time in CronSim(expression, after.astimezone(zone)):
        if (found := time.astimezone(UTC)) > after:  # not so in the hour that is repeated, the second time
            return found
    return None


def _by_the_clock(expression: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """What the clock on the wall shows, from one change of the clocks to the next: between them local time is even."""
    offset, shown = _offset(zone, after), _shown(zone, after)
    while True:
        candidate = next(CronSim(expression, shown), None)
        if candidate is None:
            return None
        found = (candidate - offset).replace(tzinfo=UTC)
        turn = _turn(zone, after, found)
        if turn is None:
            return found
        after, offset, shown = turn, _offset(zone, turn), _shown(zone, turn) - SECOND


def _turn(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first second later than `after`, up to `until`, at which the zone's offset is another one than before."""
    before, low = _offset(zone, after), after
    while low < until:
        high = min(low + DAY, until)
        if _offset(zone, high) != before:
            while high - low > SECOND:
                middle = low + (high - low) // SECOND // 2 * SECOND
                low, high = (low, middle) if _offset(zone, middle) != before else (middle, high)
            return high
        low = high
    return None


def _shown(zone: ZoneInfo, time: datetime) -> datetime:
    """What a clock there shows."""
    return time.astimezone(zone).replace(tzinfo=None)


def _offset(zone: ZoneInfo, time: datetime) -> timedelta:
    return time.astimezone(zone).utcoffset() or timedelta()
