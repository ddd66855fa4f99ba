"""What ends a job before its time, and how it goes on: signals are noted, and the job saves before it ends."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@dataclass
class StopRequest:
    """The stop signal that this process was sent; 0 before."""

    signal: int = 0


@contextmanager
def noted_stop_signals() -> Iterator[StopRequest]:
    """SIGTERM and SIGUSR1 are noted instead of ending the process."""
    request = StopRequest()

    def note(number: int, frame: object) -> None:
        request.signal = number

    before = {stop: signal.signal(stop, note) for stop in STOP_SIGNALS}
    try:
        yield request
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)


def stop(number: int, steps: int) -> SystemExit:
    """What to raise once the work of `steps` steps is saved: the status is 128 + the signal's number."""
    name = signal.Signals(number).name
    log.warning("stopped by %s after %d steps: saved, the same command goes on", name, steps)
    return SystemExit(128 + number)
