"""The heartbeat of a job: while it lives, the files of its locks get the present time once a minute.

    python workflow/jobs/heartbeat.py PID LOCK...

A child of the job with the number PID. It hears no signal that tells the job to end, as the job may go on and save, and
ends by itself within a second of the job. The time is the file server's, as no other is given.
"""

import os
import signal
import sys
import time
from contextlib import suppress

SECONDS = 60


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    job, locks = int(sys.argv[1]), sys.argv[2:]
    due = time.monotonic()
    while os.getppid() == job:
        if time.monotonic() >= due:
            due += SECONDS
            for lock in locks:
                renew(lock)
        time.sleep(1)


def renew(lock: str) -> None:
    with suppress(OSError):  # it was removed, or the file server is away for a while
        os.utime(lock)


if __name__ == "__main__":
    main()
