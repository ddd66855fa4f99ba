"""Our CSV files as frames: what is written is what is read, also where it looks like a number or like no value."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd


def read_frame(path: Path, text: Collection[str] = ()) -> pd.DataFrame:
    """A CSV file of ours; the columns of `text` that it has as they stand, all others as numbers or truth values.

    Pandas alone makes a number of a network named `1e5` or `007`, a truth value of `true`, and nothing of `NA` or
    `None`. Here an empty number is nan, an empty text is "", and nothing else is missing.
    """
    frame = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=[""], encoding="utf-8")
    return frame.fillna({column: "" for column in text if column in frame})
