"""A finished study without any training: predictions of known accuracy, throughput, token cosines, histories."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deit.bounds import Recipe
from deit.learn.objectives import Objective
from deit.learn.recipes import Optimisation, Training
from deit.networks.recipes import ComparingTokens, MeasuringThroughput, Model, PredictedRun, Predicting
from deit.see.recipes import EvaluationSet, EvaluationView, Split, TrainingData, Views
from deit.store.job import Job
from deit.store.results import write_provenance
from deit.tables.recipes import Cell, Table

IMAGES = 1000
TEACHERS = {"regnety-4gf": 85.0, "regnety-8gf": 86.1, "regnety-12gf": 86.9, "regnety-16gf": 87.4}
RATES = {
    "deit-ti": 9000,
    "deit-s": 4000,
    "deit-b": 1500,
    "regnety-4gf": 3000,
    "regnety-8gf": 2100,
    "regnety-16gf": 1300,
}
# Table 3 for deit-ti; deit-s has 4 points more, deit-b 7, its fine-tuning 9.
METHODS = {"labels": 70.2, "soft": 71.0, "hard": 74.5, "token": {"class": 74.0, "distillation": 75.1, "fusion": 75.2}}
ABOVE = {"deit-ti": 0.0, "deit-s": 4.0, "deit-b": 7.0, "deit-b-finetuned": 9.0}
# The ablation of a recipe without stochastic depth and repeated augmentation, and the epochs figure, both of deit-s.
ABLATED = {
    "baseline": 78.0,
    "sgd_pretraining": 70.0,
    "no_randaugment": 75.0,
    "autoaugment": 77.8,
    "no_mixup": 74.0,
    "no_cutmix": 75.0,
    "no_mixup_cutmix": 71.0,
    "no_erasing": 76.0,
    "stochastic_depth": 76.0,
    "repeats": 78.1,
    "dropout": 78.0,
    "ema": 75.0,
}
LENGTHS = {
    "labels": {"2": 70.0, "4": 72.0, "8": 72.4},
    "hard": {"2": 73.0, "4": 75.0, "8": 77.0},
    "token_fusion": {"2": 74.0, "4": 76.0, "8": 78.0},
}
SEEDS = (-0.2, 0.2)
"""What the two seeds add: a sample standard deviation of 0.2 * sqrt(2)."""

SPLIT = Split(images=IMAGES, files={"images": "i.gz", "labels": "l.gz"})
DATA = TrainingData(name="synthetic", reader="idx", classes=10, channels=1, mean=(0.0,), std=(1.0,), split=SPLIT)
VIEW = EvaluationView(resolution=16, crop=1.0)
TEST = EvaluationSet(reader="idx", split=SPLIT)


def model(resolution: int = 16, **arguments) -> Model:
    return Model(timm="any", arguments=arguments, classes=10, channels=1, resolution=resolution, stochastic_depth=0.0)


def begun(root: Path, kind: str, name: str, recipe: Recipe, inputs: dict[str, str] | None = None) -> Path:
    """A result folder with its recipe; `sealed` finishes it."""
    job = Job(kind=kind, name=name, recipe=recipe.model_dump(mode="json"), inputs=inputs or {}, behaviour={})
    folder = root / f"{name}-{job.digest}"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(job.model_dump_json(), encoding="utf-8")
    return folder


def sealed(folder: Path) -> Path:
    """Adds to a folder what every finished job leaves."""
    made = {"seconds": 12.5, "finished": "2026-01-01T10:00:00Z", "git_commit": "abc123", "host": "secret-host"}
    made |= {"machine": "x86_64, 2 cores", "python": "3.11.7", "versions": {"torch": "2.0", "timm": "1.0"}}
    write_provenance(folder, made)
    return folder


def decisions(accuracy: float, images: int = IMAGES) -> np.ndarray:
    """Decisions of which `accuracy` % equal the target `image % 10`; a better classifier is right where a worse one is.

    So two classifiers differ on exactly the difference of their accuracies.
    """
    rank = np.random.default_rng(0).permutation(images)
    targets = np.arange(images) % 10
    return np.where(rank < round(accuracy / 100 * images), targets, (targets + 1) % 10)


def write_predictions(path: Path, accuracies: dict[str, float], targets: list[list[int]] | None = None) -> None:
    """One parquet; `accuracies` by head."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lists = pa.list_(pa.int32())
    targets = [[image % 10] for image in range(IMAGES)] if targets is None else targets
    columns = {"image": pa.array(map(str, range(len(targets)))), "targets": pa.array(targets, lists)}
    for head, accuracy in accuracies.items():
        first = decisions(accuracy, len(targets))
        columns[f"{head}_top5"] = pa.array([[c, (c + 5) % 10] for c in first.tolist()], lists)
    pq.write_table(pa.table(columns), path)


def sheet(root: Path, name: str, runs: dict[str, dict[str, float]]) -> Path:
    """Predictions of some runs on `test` and, 10 points lower, on `corrupted`."""
    recipe = Predicting(
        data=DATA,
        runs=tuple(PredictedRun(run=run, model=model()) for run in runs),
        view=VIEW,
        evaluation_sets={"test": TEST, "corrupted": TEST},
        precision="fp32",
    )
    folder = begun(root, "predict", f"predictions/{name}", recipe)
    for run, heads in runs.items():
        write_predictions(folder / run / "test.parquet", heads)
        write_predictions(folder / run / "corrupted.parquet", {head: value - 10 for head, value in heads.items()})
    return sealed(folder)


def heads(method: str, above: float) -> dict[str, float]:
    """Accuracy by head of a run of a method."""
    value = METHODS[method]
    if method != "token":
        return {"class": value + above}
    return {head: number + above for head, number in value.items()} | {"fusion_logits": value["fusion"] + above}


def all_runs() -> dict[str, dict[str, float]]:
    """Run -> accuracy by head, for everything that the tables read."""
    runs = {f"{name}/labels/16/seed0": {"class": accuracy} for name, accuracy in TEACHERS.items()}
    for column, above in ABOVE.items():
        name, resolution = column.removesuffix("-finetuned"), 28 if column.endswith("-finetuned") else 16
        for method in METHODS:
            for seed, shift in enumerate(SEEDS):
                runs[f"{name}/{supervision(method)}/{resolution}/seed{seed}"] = heads(method, above + shift)
    for number, teacher in enumerate(["deit-b", "regnety-4gf", "regnety-8gf", "regnety-12gf"]):
        for resolution in (16, 28):
            runs[f"deit-b/hard-from-{teacher}/{resolution}/seed0"] = {"class": 78 + number + resolution / 28}
    return runs


def supervision(method: str, teacher: str = "regnety-16gf") -> str:
    return "labels" if method == "labels" else f"{method}-from-{teacher}"


def seeds(name: str, method: str, resolution: int = 16) -> tuple[str, ...]:
    return tuple(f"{name}/{supervision(method)}/{resolution}/seed{seed}" for seed in range(len(SEEDS)))


def throughput(root: Path) -> Path:
    labels = {**RATES, **{f"{name}-token": rate * 0.98 for name, rate in RATES.items() if name.startswith("deit")}}
    models = {label: model(embed_dim=32 * number, num_heads=number, depth=4) for number, label in enumerate(labels, 1)}
    recipe = MeasuringThroughput(models=models, batch=64, repeats=5)
    folder = begun(root, "throughput", "throughput/all", recipe)
    with (folder / "throughput.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "label",
                "embedding_dimension",
                "heads",
                "layers",
                "parameters",
                "images_per_second",
                "std",
                "batch",
                "device",
                "precision",
            ]
        )
        for number, (label, rate) in enumerate(labels.items(), 1):
            dimensions = (32 * number, number, 4) if label.startswith("deit") else (None, None, None)
            writer.writerow([label, *dimensions, 12345 * number, rate, rate / 50, 64, "Example CPU, 2 threads", "fp32"])
    return sealed(folder)


def tokens(root: Path, run: str, layers: list[float]) -> Path:
    recipe = ComparingTokens(
        data=DATA, run=PredictedRun(run=run, model=model()), view=VIEW, evaluation_set=TEST, images=500
    )
    folder = begun(root, "tokens", f"tokens/{run}", recipe)
    comparison = {"run": run, "input_cosine": 0.05, "layers": layers, "images": 500}
    (folder / "tokens.json").write_text(json.dumps(comparison), encoding="utf-8")
    return sealed(folder)


def trained(root: Path, run: str) -> Path:
    """A run folder with a history of four epochs."""
    name, supervised, resolution, seed = run.split("/")
    objective = Objective.model_validate({"loss": supervised.partition("-from-")[0]})
    views = Views(
        resolution=int(resolution), batch=240, mix_group=60, repeats=3, scale=(0.1, 1), ratio=(0.7, 1.3), flip=0.5,
        randaugment="", erasing=0.2, mixup=0.8, cutmix=1, mix_probability=1, switch_probability=0.5,
        label_smoothing=0.1,
    )  # fmt: skip
    optimisation = Optimisation(
        optimizer="adamw", epochs=4, learning_rate=1e-3, schedule="cosine", warmup_epochs=1, warmup_learning_rate=0,
        final_learning_rate=0, weight_decay=0.05,
    )  # fmt: skip
    recipe = Training(
        data=DATA, model=model(int(resolution)), objective=objective, views=views, stream_seed=0,
        seed=int(seed.removeprefix("seed")), optimisation=optimisation,
    )  # fmt: skip
    section = ("teachers" if name.startswith("regnet") else "students") if resolution == "16" else "finetuned"
    folder = begun(root, "train", f"{section}/{run}", recipe)
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "step", "loss", "accuracy", "learning_rate", "images_per_second", "seconds"])
        for epoch in range(4):
            loss = 1.2 + math.exp(-epoch) + len(supervised) / 100
            writer.writerow([epoch, 10 * epoch + 10, loss, 1 - loss / 3, 1e-3, 5000, 2.0])
    return sealed(folder)


def table_recipe(name: str, cells: list[Cell], **options) -> Table:
    titles = {"titles": {"test": "test images", "corrupted": "corrupted"}, "decimals": 1, "primary": "test"}
    rows = dict.fromkeys(cell.row for cell in cells)
    columns = dict.fromkeys(cell.column for cell in cells)
    if name in ("table_2", "table_3", "table_5"):
        options["families"] = {row: family(row) for row in rows}
    return Table(table=name, rows=tuple(rows), columns=tuple(columns), cells=tuple(cells), options=titles | options)


def networks() -> list[tuple[str, str, tuple[str, ...]]]:
    """Rows of Table 5: name, head, runs."""
    rows = [(name, "class", (f"{name}/labels/16/seed0",)) for name in ("regnety-4gf", "regnety-8gf", "regnety-16gf")]
    rows += [(name, "class", seeds(name, "labels")) for name in ("deit-ti", "deit-s", "deit-b")]
    return rows + [(f"{name}-token", "fusion", seeds(name, "token")) for name in ("deit-ti", "deit-s", "deit-b")]


def family(row: str) -> str:
    """What the plan would say of a row of this study."""
    return "convnet" if row.startswith("regnety") else "deit-distilled" if "token" in row else "deit"


def tables() -> dict[str, Table]:
    """The recipe of every table."""
    token_rows = {f"token_{head}": head for head in ("class", "distillation", "fusion", "fusion_logits")}
    third = [
        Cell(row=row, column=column, runs=seeds(*at(column, method)), read=head, evaluation_set="test")
        for method in METHODS
        for row, head in (token_rows.items() if method == "token" else [(method, "class")])
        for column in ABOVE
    ]
    return {
        "table_1": table_recipe("table_1", []).model_copy(update={"rows": ("deit-ti", "deit-s", "deit-b")}),
        "table_2": table_recipe("table_2", table_2_cells()),
        "table_3": table_recipe("table_3", third),
        "table_4": table_recipe("table_4", table_4_cells(), decimals=3),
        "table_5": table_recipe(
            "table_5",
            [
                Cell(row=row, column=name, runs=runs, read=head, evaluation_set=name)
                for row, head, runs in networks()
                for name in ("test", "corrupted")
            ],
            paper_columns={"test": "imagenet", "corrupted": "v2"},
        ),
        "token_analysis": table_recipe(
            "token_analysis",
            [
                Cell(row="deit-ti", column="token", runs=seeds("deit-ti", "token")),
                Cell(row="deit-ti", column="two_class_tokens", runs=("deit-ti/two-class-tokens/16/seed0",)),
            ],
            decimals=2,
        ),
        "accuracy_throughput": table_recipe(
            "accuracy_throughput",
            [Cell(row=r, column=family(r), runs=runs, read=h, evaluation_set="test") for r, h, runs in networks()],
        ),
    }  # fmt: skip


def recipe_runs() -> dict[str, dict[str, float]]:
    """Run -> accuracy by head, for what the ablation and the epochs figure read.

    Seeds change `repeats` the other way round, so that its difference from the baseline is unsure.
    """
    accuracies = {("pretrained", row): value for row, value in ABLATED.items()}
    accuracies |= {(length, row): value for row, lengths in LENGTHS.items() for length, value in lengths.items()}
    return {
        run: {"fusion" if row.startswith("token") else "class": accuracy + shift}
        for (column, row), accuracy in accuracies.items()
        for run, shift in zip(of_recipe(row, column), SEEDS[:: -1 if row == "repeats" else 1], strict=True)
    }


def of_recipe(row: str, column: str) -> tuple[str, ...]:
    """The runs of a cell of the ablation or of the epochs figure."""
    return tuple(f"deit-s/{row}-{column}/16/seed{seed}" for seed in range(len(SEEDS)))


def recipe_tables() -> dict[str, Table]:
    """The recipes of the ablation and of the epochs figure."""
    epochs = [(row, length) for row, lengths in LENGTHS.items() for length in lengths]
    places = {"ablation": [(row, "pretrained") for row in ABLATED], "epochs": epochs}
    return {
        name: table_recipe(
            name,
            [
                Cell(row=row, column=column, runs=of_recipe(row, column), evaluation_set="test",
                     read="fusion" if row.startswith("token") else "class")
                for row, column in cells
            ],
        )
        for name, cells in places.items()
    }  # fmt: skip


def at(column: str, method: str) -> tuple[str, str, int]:
    return column.removesuffix("-finetuned"), method, 28 if column.endswith("-finetuned") else 16


def table_2_cells() -> list[Cell]:
    cells = []
    for teacher in ("deit-b", *TEACHERS):
        own = supervision("hard", teacher)
        seed_numbers = range(len(SEEDS)) if teacher == "regnety-16gf" else [0]
        columns = {"teacher": (f"{teacher}/labels/16/seed0",)}
        columns |= {
            column: tuple(f"deit-b/{own}/{resolution}/seed{seed}" for seed in seed_numbers)
            for column, resolution in (("pretrained", 16), ("finetuned", 28))
        }
        cells += [Cell(row=teacher, column=c, runs=runs, evaluation_set="test") for c, runs in columns.items()]
    return cells


def table_4_cells() -> list[Cell]:
    token = seeds("deit-b", "token")
    rows = [
        ("ground_truth", "class", ()),
        ("convnet", "class", ("regnety-16gf/labels/16/seed0",)),
        ("deit", "class", seeds("deit-b", "labels")),
        *((f"token_{head}", head, token) for head in ("class", "distillation", "fusion")),
    ]
    return [Cell(row=row, column="", runs=runs, read=head, evaluation_set="test") for row, head, runs in rows]


def build(root: Path) -> dict[str, list[Path]]:
    """A whole study below `root`; section -> its result folders."""
    runs = all_runs()
    names = dict.fromkeys((run.split("/")[0], run.split("/")[2]) for run in runs)
    sheets = [
        sheet(
            root,
            f"{name}/{resolution}",
            {r: h for r, h in runs.items() if r.startswith(f"{name}/") and f"/{resolution}/" in r},
        )
        for name, resolution in names
    ]
    compared = [tokens(root, run, [0.2, 0.5, 0.7, 0.9]) for run in seeds("deit-ti", "token")]
    control = tokens(root, "deit-ti/two-class-tokens/16/seed0", [0.6, 0.9, 0.99, 0.998])
    return {
        "predictions": sheets,
        "throughput": [throughput(root)],
        "tokens": [*compared, control],
        "runs": [trained(root, run) for run in runs],
    }


def write_recipe(root: Path, kind: str, name: str, recipe: Recipe, inputs: list[Path]) -> tuple[Path, Job]:
    """The recipe file of a job over finished folders, as the plan writes it."""
    digests = {folder.name: json_digest(folder) for folder in inputs}
    job = Job(kind=kind, name=name, recipe=recipe.model_dump(mode="json"), inputs=digests, behaviour={})
    path = root / "recipes" / f"{job.digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(job.model_dump_json(), encoding="utf-8")
    return path, job


def json_digest(folder: Path) -> str:
    return Job.model_validate_json((folder / "recipe.json").read_text(encoding="utf-8")).digest
