"""Time limits of a sweep: an alarm that ends the waiting of any engine, and how much is left of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from contextvars import ContextVar

from bnrepro.core.checks import ConfigError

_ends: ContextVar[float | None] = ContextVar("ends", default=None)


@contextlib.contextmanager
def time_limit(seconds: float | None, field: str, value: object) -> Iterator[None]:
    """Raise TimeoutError in the driver when the time is over; `field` and `value` are what the user set it by.

    Local runs save and stop then, as by Ctrl-C. After a partition Ray's launcher never returns, although its jobs are
    done. Raises ConfigError where the system has no timer.
    """
    if seconds is None:
        yield
        return
    if not hasattr(signal, "setitimer"):
        raise ConfigError(field, value, "needs a timer that this system does not have; use null")
    over = []

    def late(*_: object) -> None:
        over.append(True)
        raise KeyboardInterrupt  # Ray swallows whatever else a signal handler raises while it waits

    previous = signal.signal(signal.SIGALRM, late)
    token = _ends.set(time.monotonic() + seconds)
    signal.setitimer(signal.ITIMER_REAL, seconds, 60)  # again each minute, where the first was lost
    try:
        yield
    except KeyboardInterrupt:
        if not over:
            raise
        raise TimeoutError(f"{field}={value} are over") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        _ends.reset(token)


def left() -> str:
    """Such as "  1:05:30 left"; empty without a limit."""
    ends = _ends.get()
    return "" if ends is None else f"  {clock(ends - time.monotonic())} left"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = max(0, round(seconds))
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:0{2 if hours else 1}}:{whole % 60:02}"
