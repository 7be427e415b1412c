"""The current time for expiry, which a change of the system's clock cannot turn into a loss of rows."""

import time


class Clock:
    """Compares the system's clock with the time that has passed since this object was made."""

    def __init__(self) -> None:
        self._start = time.time() - _passed()

    def latest(self) -> float:
        """Return seconds since 1970, by the clock that is ahead: an expired row stays hidden if the clock goes back."""
        return max(time.time(), self._start + _passed())

    def earliest(self) -> float:
        """Return seconds since 1970, by the clock that is behind: a clock that jumps ahead deletes no row."""
        return min(time.time(), self._start + _passed())


def _passed() -> float:
    """Return seconds of a clock that cannot be set; it includes the time in which the machine sleeps, if it can."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
