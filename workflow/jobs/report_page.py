"""index.html of a report: findings with intervals, tables whose cells lead to their runs, pictures, provenance."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from deit.recipes import Job
from deit.tables import Finding, PaperTable, titles
from deit.tables.intervals import axis_of, thresholds
from deit.tables.layout import GUIDE, STYLE, table_html
from deit.tables.predictions import Inputs
from deit.tables.verdicts import signed
from jobs.report_runs import MadeFrom, cells_shown, command

PUBLISHED = (".html", ".csv", ".tex", ".ipynb", ".png", ".svg")
"""What is copied from a table's folder."""
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
VERDICTS = {
    "holds": ("holds", "hold"),
    "contradicted": ("is contradicted", "are contradicted"),
    "undecided": ("is undecided", "are undecided"),
    "not measured": ("was not measured", "were not measured"),
}
UNITS = {"points": "points of accuracy", "fraction": "fraction of images", "cosine": "cosine"}


def page(
    job: Job,
    plan: pd.DataFrame,
    shown: list[PaperTable],
    found: list[Finding],
    read: Inputs,
    runs: list[MadeFrom],
    seen: dict,
    made: dict,
    output: Path,
    curves: Path | None,
) -> str:
    """The page, self-contained: style and figures are inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "signed": signed}
    return environment.get_template("report.html.j2").render(
        recipe=job.resolved(),
        findings=[finding_shown(finding) for finding in found],
        summary=summary(found),
        tables=[section(job.resolved().study, table, plan, read, output) for table in shown],
        curves=inlined(curves.with_suffix(".svg")) if curves else "",
        runs=runs,
        run_names={run.name for run in runs},
        seen=seen,
        made=made,
        phase_titles=PHASES,
        total_seconds=sum(phase["seconds"] for phase in made["phases"]),
        evaluation_images=evaluation_images({table.name: table.frame for table in shown}),
        guide=GUIDE,
        table_style=STYLE,
    )


def summary(found: list[Finding]) -> str:
    """How many findings hold, are contradicted, are undecided."""
    counts = Counter[str](finding.verdict for finding in found)
    parts = [
        f"{counts[verdict]} {words[counts[verdict] != 1]}"
        for verdict, words in VERDICTS.items()
        if counts[verdict] or verdict != "not measured"
    ]
    return f"Of {len(found)} findings of the paper, {', '.join(parts[:-1])}, and {parts[-1]}."


def finding_shown(finding: Finding) -> dict:
    """A finding and, where it was measured, its axis with each comparison's thresholds."""
    shown: dict[str, Any] = {
        "finding": finding,
        "unit": UNITS[finding.unit],
        "seeds": seeds(finding),
        "number": titles.TABLES[finding.table][0],
    }
    if finding.comparisons:
        shown["axis"] = axis_of(finding)
        shown["comparisons"] = [(one, list(thresholds(one))) for one in finding.comparisons]
    return shown


def seeds(finding: Finding) -> str:
    """Over how many seeds and images its comparisons are."""
    numbers = sorted({one.n for one in finding.comparisons})
    images = sorted({one.images for one in finding.comparisons if one.images})
    text = " or ".join(map(str, numbers)) + f" seed{'s' * (numbers[-1:] != [1])}" if numbers else ""
    return text + (f", {' or '.join(f'{count:,}' for count in images)} test images" if images else "")


def section(study: str, table: PaperTable, plan: pd.DataFrame, read: Inputs, output: Path) -> dict:
    """What the template shows of one table."""
    name, number = table.name, titles.caption(table.name, table.recipe.caption)
    figure = output / f"{name}.svg"
    only_figure = name == "accuracy_throughput"
    notes = table.notes[1:]  # the guide to all tables stands above the first
    rows = {row.kind: row for row in plan.itertuples(index=False, name="Row")}
    cells = {} if only_figure else cells_shown(table, read, rows["throughput"].name if "throughput" in rows else "")
    links = {at: f"#{cell.anchor}" for at, cell in cells.items()}
    of_table = next((r for r in plan.itertuples(index=False, name="Row") if (r.kind, r.name) == ("table", name)), None)
    return {
        "name": name,
        "number": number[0],
        "caption": number[1],
        "html": "" if only_figure else table_html(table.recipe, table.frame, notes, links),
        "cells": list(cells.values()),
        "command": command(study, "table", of_table.folder) if of_table else "",
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
