"""Records that end with a seal, the sha256 of what they say: whatever else stands in such a file is damage."""

import hashlib
import json
import os
from pathlib import Path


def seal_of(record: dict) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def sealed(record: dict) -> dict:
    """The record with its seal, as a JSON file is to hold it."""
    return {**record, "seal": seal_of(record)}


def replace_sealed(path: Path, record: dict) -> None:
    """Writes a sealed record in place of an earlier one; after a crash one of the two is there, whole."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(sealed(record), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def unsealed(content: bytes) -> dict:
    """The record in a sealed JSON file, byte for byte as it was sealed but for the layout.

    Raises ValueError, with what is wrong in words, where the content is anything else.
    """
    try:
        record = json.loads(content)
        seal = record.pop("seal")
        if seal == seal_of(record):
            return record
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ValueError("it is no sealed record") from None
    raise ValueError("its seal is not that of its content")


def read_sealed(path: Path, key: str, loss: str) -> list[dict]:
    """What a sealed record beside a saved state says under a key; nothing where there is no such record.

    Raises SystemExit where it is damaged; `loss` is in words what a result without it will do.
    """
    if not path.exists():
        return []
    try:
        return unsealed(path.read_bytes())[key]
    except (ValueError, KeyError) as error:
        raise SystemExit(
            f"{path}: damaged: {error}. Bring back a copy, or delete this file: the work goes on from its saved state, "
            f"and its result will {loss}."
        ) from None
