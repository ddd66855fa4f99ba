"""What ends a job before its time, and how it goes on: signals are noted, and the job saves before it ends."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
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


def saved_steps(steps: range, save: Callable[[], None], minutes: float) -> Iterator[int]:
    """The steps, one after another; between them what was made so far is saved every so many minutes.

    And on SIGTERM or SIGUSR1, when SystemExit is raised with the status 128 + signal.
    """
    saved = time.perf_counter()
    with noted_stop_signals() as request:
        for step in steps:
            if request.signal or time.perf_counter() - saved > 60 * minutes:
                save()
                saved = time.perf_counter()
            if request.signal:
                raise stop(request.signal, step)
            yield step
