"""A folder for a model hub, of a run that was trained and evaluated here: weights, config, model card and record.

    python workflow publish results/imagenet/students/deit-b/token-from-regnety-16gf/224/seed0-… --output FOLDER

Its accuracies are those of the newest predictions of this very run in the same study. Names of this machine and its
folders stay out. Nothing is uploaded: `hf upload OWNER/NAME FOLDER` does that, after you have read the README.md there.
"""

import argparse
import json
import shutil
from pathlib import Path

import jinja2

from deit.networks.given import HUB_FILE, SOURCE
from deit.networks.models import CONFIG, write_config
from deit.store.checkpoints import WEIGHTS
from deit.store.results import DIGEST_AT_THE_END, Result, read_result
from deit.tables.predictions import Inputs

READINGS = {
    "class": "class head",
    "distillation": "distillation head",
    "fusion": "sum of the softmaxes (the paper's)",
    "fusion_logits": "mean of the logits (what timm's forward returns)",
}
PRIVATE = ("host", "seconds", "files")
"""Of a result's record, what says nothing of the model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output}: is there already. Name a new folder, or delete this one.")
    publish(read_result(arguments.run), arguments.output)
    print(f"{arguments.output}: read its README.md; then, say: hf upload OWNER/NAME {arguments.output}")


def publish(run: Result, output: Path) -> None:
    """Makes the folder. Raises SystemExit where the run is none of ours, is damaged, or was never evaluated."""
    if run.job.kind != "train":
        raise SystemExit(f"{run.folder}: was not trained here ({run.job.kind}). Name the folder of a training.")
    sheet = newest_predictions(run)
    metrics, recipe = accuracies(run, sheet), run.job.resolved()
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copyfile(run.file(WEIGHTS), partial / HUB_FILE)
    shutil.copyfile(run.file("history.csv"), partial / "history.csv")
    view = {"crop_pct": sheet.job.resolved().view.crop}
    write_config(partial / CONFIG, recipe.model, recipe.data.mean, recipe.data.std, **view)
    record = public(run.record)
    if "earlier" in record:
        record["earlier"] = list(map(public, record["earlier"]))
    record |= {"name": run.job.name, "digest": run.job.digest, "sha256": run.sha256[WEIGHTS]}
    record |= {"evaluated_by": sheet.job.digest, "inputs": run.job.inputs, "behaviour": run.job.behaviour}
    record |= {"given": given_weights(run)}
    for name, content in {"recipe": run.job.recipe, "metrics": metrics, "provenance": record}.items():
        (partial / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (partial / "README.md").write_text(card(run, sheet, metrics, record), encoding="utf-8")
    partial.rename(output)


def public(attempt: dict) -> dict:
    return {key: value for key, value in attempt.items() if key not in PRIVATE}


def newest_predictions(run: Result) -> Result:
    """The newest result of the study that holds predictions of exactly this run."""
    folders = [path.parent for path in sorted(results_around(run).glob("predictions/**/provenance.json"))]
    sheets = [sheet for sheet in map(read_result, folders) if run.job.digest in sheet.job.inputs.values()]
    if not sheets:
        raise SystemExit(f"{run.folder}: there are no predictions of it. Run snakemake evaluation first.")
    return max(sheets, key=lambda sheet: sheet.record["finished"])


def results_around(run: Result) -> Path:
    """Those of its study."""
    return next((folder for folder in run.folder.resolve().parents if (folder / "recipes").is_dir()), run.folder)


def given_weights(run: Result) -> list[dict]:
    """Where the weights are from that were given to this run, its teacher, or the runs that these began with.

    Nearest first, as far as the study still has what was made of them.
    """
    paths = sorted(results_around(run).glob("**/provenance.json"))
    folders = {named[1]: path.parent for path in paths if (named := DIGEST_AT_THE_END.search(path.parent.name))}
    notes, waiting = {}, [run]
    while waiting:
        job = waiting[0].job
        if job.kind == "import":
            noted = waiting[0].json(SOURCE)
            notes[job.digest] = {key: value for key, value in noted.items() if key != "conventions"}
        needed = [job.inputs[role] for role in ("initial", "teacher") if role in job.inputs]
        waiting = waiting[1:] + [read_result(folders[digest]) for digest in needed if digest in folders]
    return list(notes.values())


def name_of(run: Result) -> str:
    """model/supervision/resolution/seed: a run's name without its section."""
    return run.job.name.partition("/")[2]


def accuracies(run: Result, sheet: Result) -> list[dict]:
    """Top-1 accuracy in percent by evaluation set and by what is read."""
    inputs = Inputs([sheet.folder])
    two = run.job.resolved().objective.tokens == 2
    rows = []
    for name in sheet.job.resolved().evaluation_sets:
        for reading in READINGS if two else ("class",):
            correct = inputs.correct(name_of(run), name, reading)
            accuracy = {"top1": round(100 * float(correct.mean()), 3), "images": len(correct)}
            rows.append({"evaluation_set": name, "reading": reading, **accuracy})
    return rows


def card(run: Result, sheet: Result, metrics: list[dict], record: dict) -> str:
    """The model card, README.md."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
    )
    model, supervision, resolution, seed = name_of(run).split("/")
    recipe = run.job.resolved()
    return environment.get_template("model_card.md.j2").render(
        model=model,
        supervision=supervision.replace("-from-", " from "),
        resolution=resolution,
        seed=seed.removeprefix("seed"),
        recipe=recipe,
        tables={part: getattr(recipe, part).model_dump() for part in ("objective", "optimisation", "views")},
        crop=sheet.job.resolved().view.crop,
        metrics=metrics,
        readings=READINGS,
        record=record,
    )
