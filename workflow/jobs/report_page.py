"""index.html of a report: findings with intervals, tables whose cells lead to their runs, pictures, provenance."""

import base64
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from deit.tables.axes import axis_of, thresholds
from deit.tables.computed import PaperTable
from deit.tables.definition import caption, definition
from deit.tables.layout import BESIDE, BEST, CELLS, STYLE, has_paper, is_best, table_html
from deit.tables.recipes import Report
from deit.tables.verdicts import Finding, p_value, signed
from jobs.report_runs import CellShown, MadeFrom, command

PUBLISHED = (".html", ".csv", ".tex", ".ipynb", ".png", ".svg")
"""What is copied from a table's folder."""
PHASES = {
    "data": "data checked",
    "networks": "networks checked",
    "views": "views stored",
    "given": "given weights fetched",
    "teachers": "teachers trained",
    "adapted": "teachers adapted to the higher resolution or other data",
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


@dataclass(frozen=True)
class Content:
    """What a page shows."""

    recipe: Report
    tables: list[PaperTable]
    findings: list[Finding]
    cells: dict[str, dict[tuple[str, str], CellShown]]
    """Of each table, by row and column."""
    runs: list[MadeFrom]
    pictures: dict
    made: dict
    """What provenance.json tells."""
    output: Path
    """The folder, which holds the tables' files by now."""
    curves: Path | None


def page(content: Content, plan: pd.DataFrame) -> str:
    """The page, self-contained: style and figures are inside."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "signed": signed, "p_value": p_value}
    beside = has_paper(table.frame for table in content.tables)
    bold = any(is_best(table.recipe, table.frame).any() for table in content.tables)
    return environment.get_template("report.html.j2").render(
        recipe=content.recipe,
        findings=[finding_shown(finding) for finding in content.findings],
        summary=summary(content.findings),
        tables=[section(table, content, plan) for table in content.tables],
        curves=inlined(content.curves.with_suffix(".svg")) if content.curves else "",
        runs=content.runs,
        run_names={run.name for run in content.runs},
        seen=content.pictures,
        made=content.made,
        phase_titles=PHASES,
        total_seconds=sum(phase["seconds"] for phase in content.made["phases"]),
        evaluation_images=evaluation_images({table.name: table.frame for table in content.tables}),
        beside=beside,
        guide=CELLS + (BESIDE if beside else "") + (BEST if bold else ""),
        table_style=STYLE,
    )


def summary(found: list[Finding]) -> str:
    """How many claims hold, are contradicted, are undecided; nothing where there are none."""
    if not found:
        return ""
    counts = Counter[str](finding.verdict for finding in found)
    parts = [
        f"{counts[verdict]} {words[counts[verdict] != 1]}" for verdict, words in VERDICTS.items() if counts[verdict]
    ]
    if len(found) == 1:
        return f"The one claim {parts[0].partition(' ')[2]}."
    return f"Of {len(found)} claims, {', '.join(parts[:-1])}{' and ' * (len(parts) > 1)}{parts[-1]}."


def finding_shown(finding: Finding) -> dict:
    """A finding and, where it was measured, its axis with each comparison's thresholds."""
    shown: dict[str, Any] = {
        "finding": finding,
        "unit": UNITS[finding.unit],
        "seeds": seeds(finding),
        "number": definition(finding.table).number,
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


def section(table: PaperTable, content: Content, plan: pd.DataFrame) -> dict:
    """What the template shows of one table."""
    name, number = table.name, caption(table.recipe)
    figure = content.output / f"{name}.svg"
    only_figure = name == "accuracy_throughput"
    notes = table.notes[1:] if definition(name).counted else table.notes  # the guide stands above the first table
    cells = content.cells.get(name, {})
    links = {at: f"#{cell.anchor}" for at, cell in cells.items()}
    folders = plan.loc[(plan["kind"] == "table") & (plan["name"] == name), "folder"]
    files = {suffix[1:]: name + suffix for suffix in PUBLISHED}
    return {
        "name": name,
        "number": number[0],
        "caption": number[1],
        "story": definition(name).story,
        "html": "" if only_figure else table_html(table.recipe, table.frame, notes, links),
        "cells": list(cells.values()),
        "command": next((command(content.recipe.study, "table", folder) for folder in folders), ""),
        "notes": " ".join(notes) if only_figure else "",
        "figure": inlined(figure) if figure.exists() else "",
        "files": {kind: file for kind, file in files.items() if (content.output / file).exists()},
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
