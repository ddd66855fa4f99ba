"""The page of a study: what was run, findings, tables beside the paper's, plots, cost and provenance.

    report.py --recipe R --tables DIR ... [--runs DIR ...] [--released DIR ...] --output reports/<study>

R is results/<study>/recipes/<digest>.json. Two folders above it lies plan.csv with a row a job: phase, kind, name,
digest, folder; each finished folder's provenance.json tells how long it took. The page, the tables' files and
metrics.json are written first and provenance-<digest>.json last: where it is, the rest is complete and of this plan.
"""

import argparse
import base64
import json
import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import jinja2
import pandas as pd

from deit import tables
from deit.recipes import Job, Report
from deit.results import provenance, read_job, read_result
from deit.tables import PaperTable, figures, titles
from deit.tables.layout import GUIDE, STYLE, table_html

PUBLISHED = (".html", ".csv", ".tex", ".ipynb", ".png", ".svg")
"""What is copied from a table's folder."""
OURS = (*PUBLISHED, ".json")
"""What a report folder holds; files of these kinds that this report did not write are of an older one."""
PHASES = {
    "data": "data checked",
    "views": "views stored",
    "released": "published weights fetched",
    "teachers": "teachers trained",
    "adapted": "teachers adapted to the higher resolution",
    "teacher_logits": "teachers’ answers cached",
    "students": "students trained",
    "finetuned": "students fine-tuned",
    "predictions": "predictions",
    "throughput": "throughput measured",
    "tokens": "tokens compared",
    "tables": "tables rendered",
}
PANELS = {"teachers": "teachers", "adapted": "teachers ↑"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], metavar="DIR", help="trained here")
    parser.add_argument("--released", type=Path, nargs="+", default=[], metavar="DIR", help="published by others")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    check_tables(job, arguments.tables)
    plan = pd.read_csv(arguments.recipe.parent.parent / "plan.csv", dtype=str)
    released = [read_result(folder).json("source.json") for folder in arguments.released]
    publish(job, plan, arguments.tables, arguments.runs, released, arguments.output)


def check_tables(job: Job, folders: list[Path]) -> None:
    """Refuse tables that are not of this plan, and damaged ones."""
    for result in map(read_result, folders):
        if result.job.digest not in job.inputs.values():
            raise SystemExit(f"{result.folder}: not a table of this report. Run snakemake, which names the right ones.")
        result.verify()


def publish(
    job: Job, plan: pd.DataFrame, table_folders: list[Path], run_folders: list[Path], released: list[dict], output: Path
) -> None:
    """Fills `output`, a folder of nothing but reports. `released` tells whence weights are that others published."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob("provenance-*.json"):
        old.unlink()
    shown = sorted(
        (tables.load(folder) for folder in table_folders), key=lambda table: list(titles.TABLES).index(table.name)
    )
    written = {path.name for folder in table_folders for path in copied(folder, output)}
    made = made_from(plan, job, run_folders) | {"released": released}
    (output / "metrics.json").write_text(json.dumps(tables.metrics(shown), indent=1) + "\n")
    if curves := training_curves(run_folders, output):
        written |= {curves.with_suffix(suffix).name for suffix in (".png", ".svg", ".csv")}
    (output / "index.html").write_text(page(job.resolved(), shown, made, output, curves))
    for path in output.iterdir():
        if path.is_file() and path.suffix in OURS and path.name not in {*written, "metrics.json", "index.html"}:
            path.unlink()
    (output / f"provenance-{job.digest}.json").write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")


def copied(folder: Path, output: Path) -> Iterable[Path]:
    """Copies a table's files; yields where to."""
    for path in sorted(folder.iterdir()):
        if path.suffix in PUBLISHED:
            yield Path(shutil.copyfile(path, output / path.name))


# What it was made from ------------------------------------------------------------------------------------------------


def made_from(plan: pd.DataFrame, job: Job, run_folders: list[Path]) -> dict:
    """The study, its results and what they were made with; host names stay out, as reports are public."""
    recipe = job.resolved()
    results = {row.folder: read_result(Path(row.folder)).record for row in finished(plan).itertuples()}
    own = provenance()
    of_all = {key: distinct(result[key] for result in results.values()) for key in ("git_commit", "machine", "python")}
    names = sorted({name for result in results.values() for name in result["versions"]})
    versions = {name: distinct(result["versions"].get(name, "none") for result in results.values()) for name in names}
    return {
        "study": recipe.study,
        "digest": job.digest,
        "commits": of_all["git_commit"],
        "report_commit": own["git_commit"],
        "machines": of_all["machine"],
        "python": of_all["python"],
        "versions": versions,
        "seeds": recipe.seeds,
        "streams": recipe.streams,
        "runs": len(run_folders),
        "phases": phases(plan, results),
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
    return plan[[(Path(folder) / "provenance.json").exists() for folder in plan["folder"].fillna("-")]]


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
    ends = [(datetime.fromisoformat(result["finished"]), timedelta(seconds=result["seconds"])) for result in results]
    return (max(end for end, _ in ends) - min(end - took for end, took in ends)).total_seconds() if ends else 0.0


def training_curves(run_folders: list[Path], output: Path) -> Path | None:
    """Draws all histories as small multiples, a panel a model, with their numbers as CSV; None without any."""
    if not run_folders:
        return None
    every = pd.concat(map(history_of, run_folders), ignore_index=True)
    order = {panel: number for number, panel in enumerate(PANELS.values())}
    every = every.sort_values("panel", key=lambda panels: panels.map(lambda panel: order.get(panel, 9)), kind="stable")
    columns = ["run", "epoch", "loss", "accuracy"]
    every[columns].to_csv(output / "training_curves.csv", index=False, float_format="%.6g", lineterminator="\n")
    return figures.save(figures.training_curves(every), output, "training_curves")


def history_of(folder: Path) -> pd.DataFrame:
    """A run's history with its panel and supervision; its name is section/model/supervision/resolution/seed."""
    result = read_result(folder)
    job = result.job
    section, model, *_ = job.name.split("/")
    panel = PANELS.get(section) or titles.title(model + ("-finetuned" if section == "finetuned" else ""))
    history = pd.read_csv(result.file("history.csv"))
    history["accuracy"] *= 100
    return history.assign(panel=panel, supervision=job.recipe["objective"]["loss"], run=job.name)


# The page -------------------------------------------------------------------------------------------------------------


def page(recipe: Report, shown: list[PaperTable], made: dict, output: Path, curves: Path | None) -> str:
    """index.html, self-contained: style and figures are inside."""
    frames = {table.name: table.frame for table in shown}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = duration
    return environment.get_template("report.html.j2").render(
        recipe=recipe,
        findings=tables.findings(shown),
        tables=[section(table, output) for table in shown],
        curves=inlined(curves.with_suffix(".svg")) if curves else "",
        made=made,
        phase_titles=PHASES,
        total_seconds=sum(phase["seconds"] for phase in made["phases"]),
        evaluation_images=evaluation_images(frames),
        guide=GUIDE,
        table_style=STYLE,
    )


def section(table: PaperTable, output: Path) -> dict:
    """What the template shows of one table."""
    name, number = table.name, titles.caption(table.name, table.recipe.caption)
    figure = output / f"{name}.svg"
    only_figure = name == "accuracy_throughput"
    notes = table.notes[1:]  # the guide to all tables stands above the first
    return {
        "name": name,
        "number": number[0],
        "caption": number[1],
        "html": "" if only_figure else table_html(table.recipe, table.frame, notes),
        "notes": " ".join(notes) if only_figure else "",
        "figure": inlined(figure) if figure.exists() else "",
        "files": {suffix[1:]: name + suffix for suffix in PUBLISHED if (output / (name + suffix)).exists()},
    }


def inlined(figure: Path) -> str:
    """A figure as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(figure.read_bytes()).decode()


def evaluation_images(frames: dict[str, pd.DataFrame]) -> str:
    """How many images the accuracies rest on."""
    counts = pd.concat([frame["images"] for frame in frames.values()]).dropna().unique() if frames else []
    return " or ".join(f"{int(count):,}" for count in sorted(counts)) or "no"


def duration(seconds: float) -> str:
    """1 h 05 min, 3 min 20 s, 12 s."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


if __name__ == "__main__":
    main()
