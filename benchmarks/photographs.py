"""JPEGs like photographs, for the benchmarks: as large, and as costly to decode."""

import statistics
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, QUALITY = (500, 375), 92


def write_photographs(folder: Path, images: int) -> float:
    """Two classes of noise at all scales, coarse ones strongest, as in photographs; returns their mean size in kB."""
    for name in ("even", "odd"):
        (folder / name).mkdir(parents=True)
    draws, sizes = np.random.RandomState(0), []
    for number in range(images):
        picture = np.full((*SIZE[::-1], 3), 128.0)
        for scale in range(9):
            small = [max(2, side >> scale) for side in SIZE[::-1]]
            noise = Image.fromarray(draws.randint(0, 256, (*small, 3)).astype(np.uint8))
            picture += (np.asarray(noise.resize(SIZE, Image.Resampling.BICUBIC), float) - 128) * 0.12 * 1.3**scale
        path = folder / ("odd" if number % 2 else "even") / f"{number}.jpg"
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path, quality=QUALITY)
        sizes.append(path.stat().st_size / 1e3)
    return statistics.mean(sizes)
