"""CONTRIBUTING's recipe "A reader", done to the letter: one new file, and its images are planned and prepared.

And what a user is told who names no reader."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from smoke_study import ENVIRONMENT
from study.params import ParamsError, load_study

from deit.see.reader import Reader, reader_named
from deit.see.readers import known_readers
from deit.see.recipes import EvaluationSet, Split

ROOT = Path(__file__).resolve().parent.parent
RECIPE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COUNTS = {"train": 600, "test": 60}
READ = """
import hashlib, sys
from pathlib import Path
import numpy as np
from plan.studies import plan_study
slow = {"torch", "torchvision", "timm", "PIL"} & sys.modules.keys()
assert not slow, f"planning imports {slow}"
from deit.commands.prepare_data import prepare_data
from deit.see.datasets import evaluation_images, training_images
from deit.store.results import read_result
plan = plan_study("mine")
(job,) = [job for job in plan.of_section("data") if job.name == "data/evaluation"]
prepare_data(job, Path("prepared"))
manifest = read_result(Path("prepared")).json("manifest.json")
data, sets = plan.settings.training_data(""), plan.settings.evaluation_sets("")
for split, images in {
    "train": training_images(data, "images", manifest),
    "test": evaluation_images(data, sets["test"], "images", "test", manifest),
}.items():
    assert np.array_equal(images.pixels, np.load(f"images/{split}.npy"))
    assert np.array_equal(images.labels, np.load(f"images/{split}-labels.npy"))
    recorded = manifest["splits"]["training" if split == "train" else split]["md5"]["images"]
    assert recorded == hashlib.md5(Path(f"images/{split}.npy").read_bytes()).hexdigest()
print(data.module, len(manifest["splits"]))
"""
"""Planning, prepare_data and the images, in the project that has the new file."""


def split_of(split: str) -> dict:
    return {"images": COUNTS[split], "files": {"images": f"{split}.npy", "labels": f"{split}-labels.npy"}, "md5": None}


def npy_data() -> dict:
    """The section `data` of a study of grey images in NumPy's files."""
    sets = {name: {"reader": "npy", "split": split_of("test")} for name in ("test", "corrupted")}
    return {"root": "images", "reader": "npy", "training": split_of("train"), "evaluation": sets}


@pytest.fixture
def place(tmp_path) -> Path:
    """A copy of the code and the params, with images and the study `mine`, without the new file."""
    for name in ("src", "workflow", "params"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "fashion-mnist"))
    (tmp_path / "images").mkdir()
    draws = np.random.default_rng(0)
    for split, count in COUNTS.items():
        np.save(tmp_path / f"images/{split}.npy", draws.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        np.save(tmp_path / f"images/{split}-labels.npy", np.arange(count, dtype=np.uint8) % 10)
    content = yaml.safe_dump({"extends": "smoke", "data": npy_data()})
    (tmp_path / "params/mine.yaml").write_text(content, encoding="utf-8")
    return tmp_path


def test_the_recipe_of_a_reader_is_one_file(place):
    (code,) = re.findall(r"### A reader\n.*?```python\n(.*?)```", RECIPE, re.DOTALL)
    (place / "src/deit/see/readers/npy.py").write_text(code, encoding="utf-8")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{place / 'src'}:{place / 'workflow'}"}
    run = subprocess.run(
        [sys.executable, "-c", READ], cwd=place, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines()[-1] == "deit.see.readers.npy 3"


def test_without_the_file_the_study_is_told_which_readers_there_are(place):
    with pytest.raises(ParamsError) as error:
        load_study("mine", place / "params")
    lines = str(error.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        *("data.reader", "data.evaluation.test.reader", "data.evaluation.corrupted.reader")
    ]
    told = f"is no reader (there are {', '.join(known_readers())}), found 'npy'"
    assert all(told in line for line in lines), lines


def test_a_slip_in_a_readers_name_is_met_with_the_right_one(place):
    (place / "params/slip.yaml").write_text("extends: smoke\ndata: {reader: iddx}\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"data\.reader: is no reader \(did you mean 'idx'\?\), found 'iddx'"):
        load_study("slip", place / "params")


def test_no_reader_makes_planning_wait_for_what_it_reads_with():
    code = (
        "import sys\n"
        "from deit.see.reader import known_readers, reader_named\n"
        "print([reader_named(name) for name in known_readers()] and sorted(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stderr
    loaded = set(re.findall(r"'([^']+)'", run.stdout))
    assert "deit.see.readers.timm" in loaded and not {"torch", "timm", "torchvision", "PIL", "datasets"} & loaded


@pytest.mark.parametrize("name", known_readers())
def test_every_reader_says_what_it_needs(name):
    reader = reader_named(name)
    assert isinstance(reader, Reader) and reader.keys
    nothing = Split(images=1)
    (mistake, *_) = reader.mistakes(nothing)
    assert mistake.key in ("files", "folder") and mistake.remedy.endswith(".")
    assert EvaluationSet(reader=name, split=nothing).module == f"deit.see.readers.{name}" == type(reader).__module__
