"""torchrun, which ends as its ranks do: `python -m deit.networks.torchrun`, with torchrun's own arguments.

torchrun itself ends every failure with the status 1 and pages about its ranks. The rank that has failed has said why.
Only of ranks that were killed something is said here, as they could not.
"""

import logging
import signal
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main


def run() -> None:
    """Raises SystemExit with the status of the rank that failed first, or 128 + signal."""
    logging.disable(logging.CRITICAL)
    try:
        main()
    except ChildFailedError as error:
        raise SystemExit(status_of(error)) from None
    except SignalException as told:
        raise SystemExit(128 + told.sigval) from None


def status_of(error: ChildFailedError) -> int:
    """The status of a failed rank; says of one that was killed that it was."""
    for rank, failure in error.failures.items():
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(
                f"rank {rank} was ended ({name}), as the kernel does where memory runs out. Ask for more memory under "
                "execution in the params file; the same command goes on from what was saved.",
                file=sys.stderr,
            )
            return 128 - failure.exitcode
    return error.get_first_failure()[1].exitcode


if __name__ == "__main__":
    run()
