"""How many days, weeks, months or years a period has, and the whole ones before today: what averages are taken over."""

from calendar import monthrange
from datetime import date, timedelta
from fractions import Fraction

DAYS = {"day": 1, "week": 7, "fortnight": 14}
MONTHS = {"month": 1, "quarter": 3, "year": 12}
LONGEST_DAYS = 364
"""Of an average if the customer names no period: 52 weeks, or 12 months."""


def last_whole(unit: str, today: date) -> date:
    """Return the last day of the last unit that is over. Weeks end on Sunday, the other ones with their month."""
    return today - timedelta(days=today.isoweekday() if DAYS.get(unit, 0) > 1 else 1 if unit in DAYS else today.day)


def first_whole(unit: str, paid: date, last: date) -> date:
    """Return the first day of the units up to the day `last`, from that of the payment on the day `paid` on."""
    end = last + timedelta(days=1)
    if unit in MONTHS:
        return max(paid.replace(day=1), end.replace(year=end.year - 1))
    return end - timedelta(days=min(-((paid - end).days // DAYS[unit]) * DAYS[unit], LONGEST_DAYS))


def units(unit: str, first: date, last: date) -> Fraction:
    """Return the number of units from the first to the last day; a part of a month counts by its days."""
    end = last + timedelta(days=1)
    if unit in DAYS:
        return Fraction((end - first).days, DAYS[unit])
    part = Fraction(end.day - first.day, monthrange(end.year, end.month)[1])
    return (12 * (end.year - first.year) + end.month - first.month + part) / MONTHS[unit]
