"""What was reached of the code before: to follow all its names takes longer than all else that a plan does.

It is kept in one file of the clone, under a digest of all texts of the package and of this Python, whose trees differ
from another's. Of other texts, or where the seal is not that of the content, nothing is remembered.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from deit.store.syntax import digest_of

PLACE = ".snakemake/reached.json"
"""From the project's root on. Whoever deletes it waits for a second."""


class Remembered:
    """Key -> what was reached, as JSON, for one state of the code."""

    def __init__(self, root: Path, texts: Mapping[str, str]):
        """`texts`: every file of the package, from the root on -> what stands in it."""
        self.path, self.code = root / PLACE, digest_of_texts(texts)
        self.entries = self.read()

    def read(self) -> dict[str, dict]:
        with suppress(OSError, ValueError):
            seal, _, content = self.path.read_text(encoding="utf-8").partition("\n")
            if seal == digest_of(content):
                found = json.loads(content)
                return found["entries"] if found.get("code") == self.code else {}
        return {}

    def add(self, key: str, made: dict) -> None:
        """Where the clone may not be written, the next process finds it out again."""
        self.entries = {**self.read(), **self.entries, key: made}
        content = json.dumps({"code": self.code, "entries": self.entries})
        begun = self.path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self.path.parent.mkdir(exist_ok=True)
            begun.write_text(f"{digest_of(content)}\n{content}", encoding="utf-8")
            begun.replace(self.path)


def texts_of(root: Path, package: str) -> dict[str, str]:
    """Every file of Python of a package, from the root on -> what stands in it."""
    files = sorted((root / "src" / package).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in files}


def digest_of_texts(texts: Mapping[str, str]) -> str:
    return digest_of("\n".join([sys.version, *(f"{file} {digest_of(text)}" for file, text in sorted(texts.items()))]))
