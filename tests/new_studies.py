"""Images as people have them, and what `python workflow new` says of them."""

import csv
import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from commands import new
from cost.speeds import Node, Speed
from PIL import Image
from study.params import load_study

CLASSES = ("bird", "cat", "große Hunde")
EACH = 12


def picture(number: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def draw(folder: Path, images: int = EACH, classes: tuple[str, ...] = CLASSES, channels: int = 3) -> Path:
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            picture(images * place + number, channels).save(folder / name / f"{number}.png")
    return folder


def proposed(
    monkeypatch, capsys, images: object, speed: float = 1000.0, cards: int = 0, teacher="", name: str = "mine"
) -> str:
    """What the command prints, on a machine of a certain speed."""
    monkeypatch.setattr(new, "measured", lambda study: node(study.name, speed))
    monkeypatch.setattr(new, "cards", lambda: cards)
    monkeypatch.setattr(new, "cores", lambda: 2)
    words = ["new", name, "--images", str(images), *(["--teacher", teacher] if teacher else [])]
    monkeypatch.setattr("sys.argv", words)
    new.main()
    return capsys.readouterr().out


def node(name: str, speed: float) -> Node:
    study = load_study(name)
    key = (str(study.resolutions.pretraining), "card", study.students.precision, speed, "of it", "measured", "here")
    views = Speed("views", "", key[0], "", "", *key[3:])
    start = Speed("start", "", "", "", "", 3.0, *key[4:])
    networks = [Speed(what, model, *key) for what in ("train", "infer") for model in study.models]
    return Node([start, views, *networks])


def refused(monkeypatch, images: object, name: str = "mine", *options: str) -> str:
    monkeypatch.setattr("sys.argv", ["new", name, "--images", str(images), *options])
    with pytest.raises(SystemExit) as error:
        new.main()
    assert str(error.value).startswith("Nothing was written: ") and str(error.value).endswith((".", "?"))
    assert not Path("params/mine.yaml").exists()
    return str(error.value)


def tar_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
    return path


def shard(path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            content = io.BytesIO()
            picture(number).save(content, "PNG")
            for kind, data in (("png", content.getvalue()), ("cls", str(number % 3).encode())):
                member = tarfile.TarInfo(f"{number:03d}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def csv_of(folder: Path, path: Path, split: bool) -> Path:
    rows = [("path", "label", *(["split"] if split else []))]
    for name in CLASSES:
        for number in range(EACH):
            part = ["val" if number % 4 == 0 else "train"] if split else []
            rows.append((f"{folder.name}/{name}/{number}.png", name, *part))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def lay(place: Path, kind: str) -> Path | str:
    """Images as people have them."""
    folder = draw(place / "pets")
    match kind:
        case "class folders":
            return folder
        case "train and val" | "train, val and test":
            for part in kind.replace(" and ", ", ").split(", "):
                shutil.copytree(folder, place / "split" / part)
            return place / "split"
        case "a tar":
            return tar_of(folder, place / "pets.tar")
        case "two tars":
            (place / "tars").mkdir()
            for part in ("train", "val"):
                tar_of(folder, place / f"tars/{part}.tar")
            return place / "tars"
        case "a CSV file":
            return csv_of(folder, place / "pets.csv", split=False)
        case "a CSV file with splits":
            return csv_of(folder, place / "pets.csv", split=True)
        case "two CSV files":
            for part in ("train", "val"):
                csv_of(draw(place / f"tables/{part}-photos"), place / f"tables/{part}.csv", split=False)
            return place / "tables"
        case "shards":
            (place / "shards").mkdir()
            for number in range(3):
                shard(place / f"shards/pets-train-{number:04d}.tar", range(12 * number, 12 * number + 12))
            shard(place / "shards/pets-val-0000.tar", range(36, 48))
            return f"wds/{place / 'shards'}"
    raise AssertionError(kind)
