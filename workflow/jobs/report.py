"""The page of a study: what was run, findings, tables beside the paper's, plots, cost and provenance.

    report.py --recipe R --tables DIR ... [--runs DIR ...] [--given DIR ...] [--data DIR ...]
        [--predictions DIR ...] [--throughput DIR ...] [--networks DIR ...] [--tokens DIR ...]
        --output reports/<study>

R is results/<study>/recipes/<digest>.json. Two folders above it lies plan.csv with a row a job: phase, kind, name,
digest, folder; each finished folder's provenance.json tells how long it took. The page, the tables' files and the data
behind them are written first and provenance-<digest>.json last: where it is, the rest is complete and of this plan.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from deit.store.frames import read_frame
from deit.store.job import Job
from deit.store.results import Result, check_planned, provenance, read_job, read_result
from deit.tables import computed, figures, titles
from deit.tables.definition import definitions
from deit.tables.forest import forest
from deit.tables.predictions import Inputs
from deit.tables.recipes import READ
from deit.tables.verdicts import findings
from jobs.report_claims import claim_records
from jobs.report_data import write_data
from jobs.report_page import PHASES, PUBLISHED, Content, page
from jobs.report_pictures import Images, pictures
from jobs.report_runs import cells_shown, results_shown

PLANNED = ("phase", "kind", "name", "digest", "folder")
"""The columns of plan.csv."""
OURS = (*PUBLISHED, ".json", ".parquet")
"""What a report folder holds; files of these kinds that this report did not write are of an older one."""
PANELS = {"teachers": "teachers", "adapted": "teachers ↑"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="DIR", help="trained here")
    parser.add_argument("--given", type=Path, nargs="+", default=[], metavar="DIR", help="weights that were given")
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="DIR", help="of the images that are shown")
    for section in READ:
        parser.add_argument(f"--{section}", type=Path, nargs="+", default=[], metavar="DIR", help="behind the tables")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    plan = read_frame(arguments.recipe.parent.parent / "plan.csv", text=PLANNED)
    for table in check_planned(arguments.tables, job.inputs.values(), job.name):
        table.verify()
    behind = [folder for section in READ for folder in getattr(arguments, section)]
    others = [*arguments.runs, *arguments.given, *arguments.data, *behind]
    check_planned(others, set(plan["digest"]), job.name)
    read = Inputs(behind)
    images = Images(job.execution.data_root, arguments.data)
    publish(job, plan, arguments.tables, arguments.runs, arguments.given, images, read, arguments.output)


def publish(
    job: Job,
    plan: pd.DataFrame,
    table_folders: list[Path],
    run_folders: list[Path],
    given_folders: list[Path],
    images: Images,
    read: Inputs,
    output: Path,
) -> None:
    """Fills `output`, a folder of nothing but reports."""
    shown = sorted(
        (computed.load(folder) for folder in table_folders), key=lambda table: list(definitions()).index(table.name)
    )
    networks = {result.job.digest: result for result in map(read_result, [*run_folders, *given_folders])}
    given = [result.json("source.json") for result in networks.values() if result.job.kind == "import"]
    made = made_from(plan, job, run_folders) | {"given": given}
    found = findings(shown)
    seen, runs = pictures(images, networks, shown, read), results_shown(plan, job.resolved().study, networks)
    cells = {table.name: cells_shown(table, read, plan) for table in shown if table.name != "accuracy_throughput"}
    clear(output)  # all that could be damaged was read
    for folder in table_folders:
        copy(folder, output)
    write(output / "metrics.json", computed.metrics(shown))
    write(output / "claims.json", claim_records(found, shown, plan))
    write_data(shown, read, output)
    if figure := forest(found):
        figures.save(figure, output, "findings")
    curves = training_curves(list(networks.values()), job.resolved().data, output)
    content = Content(job.resolved(), shown, found, cells, runs, seen, made, output, curves)
    (output / "index.html").write_text(page(content, plan), encoding="utf-8")
    write(output / f"provenance-{job.digest}.json", made)


def clear(output: Path) -> None:
    """Removes an older report, its provenance first; files of other kinds stay."""
    output.mkdir(parents=True, exist_ok=True)
    older = [path for path in output.iterdir() if path.is_file() and path.suffix in OURS]
    for path in sorted(older, key=lambda path: not path.name.startswith("provenance-")):
        path.unlink()


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def copy(folder: Path, output: Path) -> None:
    """Copies what is published of a table."""
    for path in sorted(folder.iterdir()):
        if path.suffix in PUBLISHED:
            shutil.copyfile(path, output / path.name)


# What it was made from ------------------------------------------------------------------------------------------------


def made_from(plan: pd.DataFrame, job: Job, run_folders: list[Path]) -> dict:
    """The study, its results and what they were made with; host names stay out, as reports are public."""
    recipe = job.resolved()
    results = {row.folder: read_result(Path(row.folder)).record for row in finished(plan).itertuples()}
    own = provenance()
    attempts = [attempt for result in results.values() for attempt in (result, *result.get("earlier", []))]
    names = sorted({name for attempt in attempts for name in attempt["versions"]})
    versions = {name: distinct(attempt["versions"].get(name, "none") for attempt in attempts) for name in names}
    return {
        "study": recipe.study,
        "digest": job.digest,
        "commits": distinct(attempt["git_commit"] for attempt in attempts),
        "report_commit": own["git_commit"],
        "machines": distinct(map(machine, attempts)),
        "python": distinct(attempt["python"] for attempt in attempts),
        "versions": versions,
        "seeds": recipe.seeds,
        "streams": recipe.streams,
        "runs": len(run_folders),
        "phases": phases(plan, results),
        "interrupted": sum("earlier" in result for result in results.values()),
        "any_kernels": sum(not attempt.get("deterministic_kernels", True) for attempt in attempts),
        "elapsed_seconds": elapsed(results.values()),
        "adopted": adopted(plan, results),
        "results": dict(zip(plan["phase"] + "/" + plan["name"], plan["digest"], strict=True)),
    }


def adopted(plan: pd.DataFrame, results: dict[str, dict]) -> list[dict]:
    """Every declaration that a change of code did not alter a result of this page."""
    return [
        {"result": f"{row.phase}/{row.name}", **entry}
        for row in plan.itertuples(index=False)
        for entry in results.get(row.folder, {}).get("adopted", [])
    ]


def finished(plan: pd.DataFrame) -> pd.DataFrame:
    """The planned jobs whose results are still here: a pruned cache has none."""
    return plan[[(Path(folder) / "provenance.json").exists() for folder in plan["folder"].replace("", "-")]]


def machine(attempt: dict) -> str:
    """The CPU and the GPUs that an attempt had."""
    counts = Counter(gpu["name"] for gpu in attempt.get("gpus", []))
    return ", ".join([attempt["machine"], *(f"{count} × {name}" for name, count in counts.items())])


def distinct(values: Iterable[str]) -> list[str]:
    return [value for value, _ in Counter(values).most_common()]


def phases(plan: pd.DataFrame, results: dict[str, dict]) -> list[dict]:
    """Jobs and their seconds by phase, in the order of the pipeline."""
    seconds = (
        plan["folder"].map(lambda folder: results.get(folder, {}).get("seconds", 0.0)).groupby(plan["phase"]).sum()
    )
    jobs = plan["phase"].value_counts()
    return [
        {"phase": name, "jobs": int(jobs[name]), "seconds": round(seconds[name], 1)} for name in PHASES if name in jobs
    ]


def elapsed(results: Iterable[dict]) -> float:
    """Seconds from the first job's start to the last one's end; over all sittings, breaks included."""
    times = [(began(result), datetime.fromisoformat(result["finished"])) for result in results]
    return (max(end for _, end in times) - min(begin for begin, _ in times)).total_seconds() if times else 0.0


def began(result: dict) -> datetime:
    """When a result's first attempt did; of results that do not tell it, by the time that they took."""
    if "began" in result:
        return datetime.fromisoformat(result["began"])
    return datetime.fromisoformat(result["finished"]) - timedelta(seconds=result["seconds"])


def training_curves(networks: list[Result], data: str, output: Path) -> Path | None:
    """Draws all histories as small multiples, a panel a model, with their numbers as CSV; None without any.

    `data` is the name of the study's own data set.
    """
    histories = [history_of(result, data) for result in networks if result.job.kind == "train"]
    if not histories:
        return None
    every = pd.concat(histories, ignore_index=True)
    order = {panel: number for number, panel in enumerate(PANELS.values())}
    every = every.sort_values("panel", key=lambda panels: panels.map(lambda panel: order.get(panel, 9)), kind="stable")
    columns = ["run", "epoch", "loss", "accuracy"]
    every[columns].to_csv(output / "training_curves.csv", index=False, float_format="%.6g", lineterminator="\n")
    return figures.save(figures.training_curves(every), output, "training_curves")


def history_of(result: Result, data: str) -> pd.DataFrame:
    """A run's history with its panel and supervision; its name is section/model/supervision/resolution/seed."""
    job = result.job
    section, model, supervision, *_ = job.name.split("/")
    panel = PANELS.get(section) or titles.title(model + ("-finetuned" if section == "finetuned" else ""))
    if job.recipe["data"]["name"] != data:
        panel = f"{titles.title(model)}, {supervision.partition('-to-')[2]}"
    history = read_frame(result.file("history.csv"))
    history["accuracy"] *= 100
    return history.assign(panel=panel, supervision=job.recipe["objective"]["loss"], run=job.name)


if __name__ == "__main__":
    main()
