"""Which test a claim's mean over sizes deserves: how often each candidate is wrong, and how often it sees a gain.

    PYTHONPATH=src:workflow python benchmarks/claim_tests.py [--studies N] [--gain SDS]

A study has three sizes, five trainings a size and three or five seeds; a claim is of two of the trainings, its estimate
the mean of their difference over the sizes. Numbers are normal: what a seed does to all trainings of a size (five
standard deviations), and what is of one training alone (one, or three where a case says so). Tests are one-sided, at
5 % and at what Holm's procedure leaves the first of twelve claims.
"""

import argparse

import numpy as np

from deit.tables.student_t import quantile

SIZES, TRAININGS = 3, 5
LEVELS = (0.05, 0.05 / 12)
CASES = {  # size, training -> standard deviation; 1 where nothing is said
    "equal": {},
    "one size 3:1": {(0, training): 3.0 for training in range(TRAININGS)},
    "one training 3:1": {(size, 0): 3.0 for size in range(SIZES)},
    "both trainings 3:1": {(size, training): 3.0 for size in range(SIZES) for training in (0, 1)},
    "others 3:1": {(size, training): 3.0 for size in range(SIZES) for training in (2, 3, 4)},
    "sizes go together": {},
}
TOGETHER = 0.5
"""Correlation of a training with the same training of another size, in the last case: seeds share their views."""


def simulated(random: np.random.Generator, studies: int, case: str, seeds: int) -> np.ndarray:
    """Studies without any difference (N, K sizes, M trainings, S seeds)."""
    own = random.normal(size=(studies, SIZES, TRAININGS, seeds))
    if case == "sizes go together":
        common = random.normal(size=(studies, 1, TRAININGS, seeds))
        own = TOGETHER**0.5 * common + (1 - TOGETHER) ** 0.5 * own
    deviations = np.ones((SIZES, TRAININGS, 1))
    for place, deviation in CASES[case].items():
        deviations[place] = deviation
    return own * deviations + random.normal(0, 5, (studies, SIZES, 1, seeds))


def by_seed(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paired by seed: the mean over sizes is one number a seed."""
    seeds = numbers.shape[-1]
    differences = (numbers[:, :, 0] - numbers[:, :, 1]).mean(axis=1)
    return differences.std(axis=-1, ddof=1) / np.sqrt(seeds), np.full(len(numbers), seeds - 1.0)


def by_size(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each size's difference has its own spread; their sum, by Satterthwaite."""
    return combined((numbers[:, :, 0] - numbers[:, :, 1]).var(axis=-1, ddof=1), numbers.shape[-1])


def about_the_median(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each training about the median of the others of its seed and size (blocks.py); their sum, by Satterthwaite."""
    parts = []
    for row in (0, 1):
        others = np.median(np.delete(numbers, row, axis=2), axis=2)
        parts.append((numbers[:, :, row] - others).var(axis=-1, ddof=1))
    return combined(np.concatenate(parts, axis=1), numbers.shape[-1])


def pooled(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The residual mean square of all trainings of all sizes."""
    centred = numbers - numbers.mean(axis=2, keepdims=True)
    centred = centred - centred.mean(axis=3, keepdims=True)
    seeds = numbers.shape[-1]
    df = SIZES * (TRAININGS - 1) * (seeds - 1)
    square = np.square(centred).sum(axis=(1, 2, 3)) / df
    return np.sqrt(2 * square / seeds / SIZES), np.full(len(numbers), float(df))


def combined(variances: np.ndarray, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the mean over sizes and its degrees of freedom, of variances that add up (N, parts)."""
    total = variances.sum(axis=1)
    return np.sqrt(total / seeds) / SIZES, (seeds - 1) * total**2 / np.square(variances).sum(axis=1)


TESTS = {"by seed": by_seed, "by size": by_size, "about the median": about_the_median, "pooled": pooled}


def rejected(numbers: np.ndarray, gain: float, test, level: float) -> float:
    """The share of studies in which a test says that the first training is better."""
    error, df = test(numbers)
    grid = np.linspace(df.min(), df.max() + 1e-9, 200)
    bounds = np.interp(df, grid, [quantile(1 - level, float(one)) for one in grid])
    return float(np.mean((numbers[:, :, 0] - numbers[:, :, 1]).mean(axis=(1, 2)) + gain > bounds * error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000)
    parser.add_argument("--gain", type=float, default=1.5, help="at every size, in standard deviations of a training")
    arguments = parser.parse_args()
    head = " ".join(f"{name:>27}" for name in TESTS)
    print(
        f"{arguments.studies:,} studies; of each test: level and power at 5 %, level and power at 0.42 %\n{'':26}{head}"
    )
    for seeds in (3, 5):
        for case in CASES:
            numbers = simulated(np.random.default_rng(seeds), arguments.studies, case, seeds)
            shares = [
                "".join(
                    f"{rejected(numbers, gain, test, level):7.4f}" for level in LEVELS for gain in (0.0, arguments.gain)
                )
                for test in TESTS.values()
            ]
            print(f"{seeds} seeds, {case:<16}" + " ".join(shares))


if __name__ == "__main__":
    main()
