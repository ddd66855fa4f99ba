"""One thin command line a workflow step; each reads one recipe file and writes one complete folder.

Importing torch and timm makes millions of objects and no garbage. Without collections among them, and at the end of the
process, a command starts and ends in 2.8 s of CPU time instead of 4.7 s, which a pipeline of small jobs feels.
"""

import errno
import gc
import logging
import os
import re
import resource
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from deit.store.finished import record_at

if sys.argv[0] == "-m":  # python -m deit.commands.x is about to import x; a test that imports it is not
    gc.disable()

AGAIN = "What was saved before is intact: {}, and give the same command again."
NO_KERNEL = "does not have a deterministic implementation"
"""torch's words for an operation of a network that gives other bits each time on a GPU."""
DATA_KEY = re.compile(r"(?<![\w./])data(?=\.(channels|classes|evaluation|root|training)\b)")
SIGINT_STATUS = 130


def run(main: Callable[[], None]) -> None:
    """Runs a command with the garbage collector on again, and what was imported out of its sight.

    An error is told once, and ends the process at once: threads, worker processes and other ranks that wait for
    something could otherwise keep it for ever, and all of them end by themselves when it is gone.
    """
    gc.freeze()
    gc.enable()
    allow_many_files()
    # All errors of the main thread are told below. What is left is multiprocessing's sharer of file descriptors, which
    # tells of a worker that has ended while it asked.
    sys.excepthook = lambda *_: None
    try:
        main()
    except BaseException as error:
        message, status = ending(error)
        if message:
            print(with_keys_of_params(message, sys.argv), file=sys.stderr)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def allow_many_files() -> None:
    """As many as the system lets a process open: each shard of a data set stays open, and ImageNet's are 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # where the system says more than it grants
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def ending(error: BaseException) -> tuple[str, int]:
    """What to say of the error that ends a command, and the process's status.

    What the machine or the data lack is one message; a mistake in the program is its traceback, that of the worker
    process where one made it.
    """
    if isinstance(error, SystemExit):
        return (error.code, 1) if isinstance(error.code, str) else ("", error.code or 0)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", SIGINT_STATUS
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the folder of the results"
        return f"{where}: {error.strerror}. {AGAIN.format('make room')}", 1
    if isinstance(error, OSError) and str(error):
        return str(error), 1
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported
        first = "let execution's groups_per_forward be smaller, or use a machine with more memory"
        return f"out of memory: {error or 'of the CPU'}\n{AGAIN.format(first)}", 1
    if isinstance(error, RuntimeError) and NO_KERNEL in str(error):
        first = "set deterministic: false under execution in the params file, which the result's provenance will tell"
        return f"{str(error).partition(',')[0]}. {AGAIN.format(first)}", 1
    return "".join(getattr(error, "__notes__", None) or traceback.format_exception(error)).rstrip(), 1


def with_keys_of_params(message: str, words: list[str]) -> str:
    """The message with keys of `data` as the params hold them: those of the job's data set may be below `transfer`.

    `words` are the command's, by which its recipe is found.
    """
    recipe = record_at(Path(words[words.index("--recipe") + 1])) if "--recipe" in words[:-1] else {}
    return DATA_KEY.sub(recipe.get("execution", {}).get("data_key", "data"), message)
