"""A result that another study has made already: the same recipe from the same inputs by the same code, so a copy is it.

Not a hard link: what damages or edits a file of one study would reach the other's. Where the disk can (btrfs, XFS), the
copy shares its blocks until one of the two is written to, as DVC's do.
"""

import shutil
from pathlib import Path

from deit.store.results import read_result, sync

FICLONE = 0x40049409
"""Linux's request that a file takes over the blocks of another (ioctl_ficlone(2))."""


def copy_result(source: Path, output: Path, digest: str) -> None:
    """Makes `output` the result in `source`, that of the job `digest`; every byte is checked before it has the name.

    Raises SystemExit where the source is another result or a damaged one, or the disk is full, and leaves nothing.
    """
    partial = output.with_name(f"{output.name}.copy")
    shutil.rmtree(partial, ignore_errors=True)
    result = read_result(source)
    if result.job.digest != digest:
        raise SystemExit(f"{source}: holds {result.job.name} ({result.job.digest}), and {digest} was asked for.")
    try:
        shutil.copytree(source, partial, copy_function=copy_file)
        for name in result.sha256:
            read_result(partial).file(name)
    except SystemExit:
        shutil.rmtree(partial)
        result.verify()  # says so of the source, if that is where the damage is
        raise
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise SystemExit(
            f"{output}: could not be copied from {source}: {reason(error)}. Mend that, and give the snakemake command "
            "again."
        ) from None
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    shutil.rmtree(output, ignore_errors=True)  # empty, or without some of its files
    partial.rename(output)
    sync(output.parent)


def reason(error: OSError) -> str:
    """Why a copy failed; copytree collects what it met, a file after the other."""
    return error.args[0][0][2] if isinstance(error, shutil.Error) else str(error)


def copy_file(source: str, target: str) -> None:
    """The bytes of a file, on the same blocks of the disk where it can."""
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            from fcntl import ioctl

            ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, 1 << 20)
