"""Every image file decoded once, before anything is trained on it: a damaged one is found in minutes, not in days."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from deit.see.datasets import ImageSet
from deit.store import attempts
from deit.store.interruption import noted_stop_signals, stop
from deit.store.seals import replace_sealed, unsealed

log = logging.getLogger(__name__)

PROGRESS = "decoded.json"
BLOCK = 64
"""Images that each thread decodes before the next look at the clock and at stop signals."""
SAVE_SECONDS = 10
TOLD = 20
"""Images that the message names; the log has all."""


def decode_all(sets: Sequence[ImageSet], folder: Path, manifest: str, threads: int) -> None:
    """Decodes every image of the sets by so many threads: Pillow lets others run while it decodes.

    What was done is kept in `folder` until all is well, and taken up again for the same `manifest` (its digest); images
    that were found damaged are looked at anew. Raises SystemExit with the paths of all damaged images, or when stopped.
    """
    path, total = folder / PROGRESS, sum(map(len, sets))
    done, damaged = progress(path, manifest)
    with (
        noted_stop_signals() as request,
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=total, initial=done, unit=" images", leave=False, disable=None) as bar,
    ):
        faults = faults_of(sets, damaged, pool)
        saved = time.perf_counter()
        while done < total:
            block = range(done, min(done + threads * BLOCK, total))
            faults |= faults_of(sets, block, pool)
            done = block.stop
            bar.update(len(block))
            if request.signal or done == total or time.perf_counter() - saved > SAVE_SECONDS:
                replace_sealed(path, {"manifest": manifest, "done": done, "damaged": list(faults)})
                attempts.saved(folder)
                log.info("decoded %d of %d images, %d of them damaged", done, total, len(faults))
                saved = time.perf_counter()
            if request.signal:
                raise stop(request.signal, done)
    if faults:
        raise SystemExit(told(list(faults.values()), total))
    for file in folder.glob(f"{PROGRESS}*"):
        file.unlink()


def faults_of(sets: Sequence[ImageSet], numbers: Sequence[int], pool: ThreadPoolExecutor) -> dict[int, str]:
    """Number of a damaged image -> what is wrong with it."""
    faults = zip(numbers, pool.map(lambda number: fault(sets, number), numbers), strict=True)
    return {number: text for number, text in faults if text}


def fault(sets: Sequence[ImageSet], number: int) -> str:
    """What is wrong with an image, by its number over all sets; nothing, if it can be decoded."""
    for images in sets:
        if number < len(images):
            break
        number -= len(images)
    try:
        images.image(number)
    except OSError as error:
        return str(error)
    return ""


def told(faults: list[str], total: int) -> str:
    """All faults for the log, where they are many, and the message."""
    further = ""
    if len(faults) > TOLD:
        further = f"\nand {len(faults) - TOLD} more, which the log above names."
        for text in faults:
            log.error(text)
    return "\n".join([f"{len(faults)} of {total} images cannot be read:", *faults[:TOLD]]) + further


def progress(path: Path, manifest: str) -> tuple[int, list[int]]:
    """How many images were decoded, and which of them were damaged; none, where that is of other data or damaged."""
    try:
        content = unsealed(path.read_bytes())
    except FileNotFoundError:
        return 0, []
    except ValueError:
        content = {}
    if content.get("manifest") != manifest:
        log.warning("%s: damaged, or of other images; all images are decoded again", path)
        return 0, []
    return content["done"], content["damaged"]
