"""Files against what the params declare of them, and the one message where they differ."""

import hashlib
from pathlib import Path
from typing import NoReturn

import numpy as np

RESTORE = "Restore the original under data.root, or declare the new data in the params file"


def refuse(key: str, part: str, path: Path, expected: str, found: str) -> NoReturn:
    raise SystemExit(f"{path}: expected {expected}, found {found}. {RESTORE} ({key}.{part}).")


def read_checked(path: Path, md5: str, key: str, part: str) -> tuple[bytes, str]:
    """A file's bytes, and their MD5, which is `md5` where that is not empty."""
    if not path.is_file():
        raise SystemExit(f"{path}: missing. {RESTORE} ({key}.files.{part}).")
    content = path.read_bytes()
    found = hashlib.md5(content).hexdigest()
    if md5 and found != md5:
        refuse(key, f"md5.{part}", path, f"the MD5 {md5}", found)
    return content, found


def check_labels(labels: np.ndarray, classes: int, path: Path) -> None:
    """Refuses labels (N,) of a file that name more classes than are declared."""
    if labels.max() >= classes:
        refuse("data", "classes", path, f"classes below {classes}", f"class {labels.max()}")
