"""A frame as people read it: HTML and LaTeX, ours above the paper's number and the difference, the best in bold."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import pandas as pd

from deit.tables.recipes import Table

from .definition import caption, definition, titles_of
from .titles import title

DASH = "—"
CELLS = "Each cell shows our number, the mean over seeds ± half of its 95 % interval."
MEASURED = "Each cell shows what was measured of our network."
BESIDE = (
    " Below it, in grey, stand the paper’s number, of its own networks on ImageNet unless the table says otherwise, "
    "and the difference, ours − paper (for images/s and parameters the ratio, ×)."
)
BEST = " Bold: the highest accuracy of its column."
IMAGES_TOO = "analysis of variance in which seeds and images are random, Student’s t for the spread over seeds"
ONE_SEED = "how much another seed, or another machine, would change is unknown"
KINDS = {
    **dict.fromkeys(("embedding_dimension", "heads", "layers", "resolution"), "dimension"),
    **dict.fromkeys(("parameters", "parameters_with_distillation_token", "multiply_adds"), "count"),
    "images_per_second": "rate",
}

STYLE = """
.paper-table{margin:0 0 .6em;max-width:100%}
.paper-table .scroll{overflow-x:auto}
.paper-table table{border-collapse:collapse;border:0;border-top:1.5px solid;border-bottom:1.5px solid;margin:.5em 0;
 font-variant-numeric:tabular-nums lining-nums;line-height:1.3;background:none}
.paper-table tr{background:none!important}
.paper-table th,.paper-table td{padding:.3em .75em;border:0;text-align:right;vertical-align:top;white-space:nowrap;
 font-weight:400}
.paper-table th:first-child{text-align:left;padding-left:.2em}
.paper-table thead th{border-bottom:.75px solid;vertical-align:bottom;white-space:normal;max-width:9.5em}
.paper-table tr.family>*{border-top:.75px solid #8888}
.paper-table .spread{font-size:.82em;opacity:.75}
.paper-table .paper{display:block;font-size:.82em;opacity:.62}
.paper-table caption,.paper-table .caption{text-align:left;margin:0 0 .2em}
.paper-table .notes{font-size:.85em;opacity:.75;margin:.2em 0 0}
.paper-table td a{color:inherit;text-decoration:none}
.paper-table td a:hover,.paper-table td a:focus{text-decoration:underline}
"""


Links = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Shown:
    """One cell as text: empty strings where there is nothing to say."""

    ours: str = DASH
    spread: str = ""
    paper: str = ""
    best: bool = False


def kind(table: str, column: str) -> str:
    """What a column's numbers are; it decides how they are written."""
    return KINDS.get(column) or definition(table).kind


def number(value: float, of: str, decimals: int) -> str:
    """A number as text, rounded for display only."""
    if of == "count" and value >= 1e9:
        return f"{value / 1e9:,.2f} G"
    if of in ("dimension", "count"):
        return f"{value / 1e6:,.2f} M" if value >= 1e6 else f"{value:,.0f}"
    if of == "rate":
        return f"{value:,.0f}"
    text = f"{value:.{decimals}f}"
    return text.removeprefix("0") if of == "fraction" and decimals else text


def compared(row: pd.Series, of: str, decimals: int) -> str:
    """The paper's number and how ours differs: by subtraction, or as a ratio where sizes and machines differ."""
    if pd.isna(row.paper):
        return ""
    theirs = number(row.paper, of, decimals)
    if pd.isna(row.ours) or of == "dimension":
        return theirs
    if of in ("count", "rate"):
        ratio = row.ours / row.paper
        return f"{theirs} · ×{ratio:.{2 if ratio < 0.995 else int(ratio < 9.95)}f}" if 0.1 < ratio < 100 else theirs
    difference = number(abs(row.difference), of, decimals)
    sign = "" if float(difference) == 0 else "−" if row.difference < 0 else "+"
    return f"{theirs} · {sign}{difference}"


def shown(row: pd.Series, of: str, decimals: int, best: bool, count_seeds: bool) -> Shown:
    """One row of a frame as text; `count_seeds` adds how many seeds the interval is over."""
    theirs = compared(row, of, decimals)
    if pd.isna(row.ours):
        return Shown(paper=theirs)
    if row.row == row.column:
        return Shown("0")  # a classifier never disagrees with itself
    spread = "" if pd.isna(row.low) else f"± {number((row.high - row.low) / 2, of, decimals)}"
    spread += f" ({row.n:.0f})" if spread and count_seeds else ""
    return Shown(number(row.ours, of, decimals), spread, theirs, best)


def is_best(recipe: Table, frame: pd.DataFrame) -> pd.Series:
    """Which cells hold the highest accuracy of their column, as it is printed, among several.

    None where the table has its own guide.
    """
    if definition(recipe.table).guide:
        return pd.Series(False, frame.index)
    accuracy = frame["column"].map(lambda column: kind(recipe.table, column) == "accuracy")
    printed = frame["ours"].map(lambda value: round(value, decimals_of(recipe)))
    columns = printed[accuracy].groupby(frame["column"])
    highest = printed == columns.transform("max").reindex(frame.index)
    return highest & (columns.transform("count").reindex(frame.index) > 1)


def decimals_of(recipe: Table) -> int:
    """How many places its accuracies are printed with."""
    return int(recipe.options.get("decimals", 1))


def grid(recipe: Table, frame: pd.DataFrame) -> tuple[list[str], list[str], dict[tuple[str, str], Shown]]:
    """Rows, columns and the text of each cell, in the order of the frame."""
    decimals, best = decimals_of(recipe), is_best(recipe, frame)
    count_seeds = frame["n"][frame["n"] > 1].nunique() > 1
    cells = {
        (row.row, row.column): shown(row, kind(recipe.table, row.column), decimals, best[index], count_seeds)
        for index, row in frame.iterrows()
    }
    return list(dict.fromkeys(frame["row"])), list(dict.fromkeys(frame["column"])), cells


def parted(recipe: Table, rows: list[str]) -> Iterator[tuple[str, bool]]:
    """(row, whether a rule stands above it): where another part begins, or family of networks."""
    families = definition(recipe.table).parts or recipe.options.get("families", {})
    for before, row in zip([None, *rows], rows, strict=False):
        yield row, before is not None and families.get(before) != families.get(row)


def notes(recipe: Table, frame: pd.DataFrame) -> list[str]:
    """How to read the table, the same for all; then over how many seeds and images its numbers are."""
    own = definition(recipe.table)
    cells = (CELLS if own.counted else MEASURED) + (BESIDE if has_paper([frame]) else "")
    found = [cells, own.guide] if own.guide else [cells + (BEST if is_best(recipe, frame).any() else "")]
    if not own.counted:
        return found
    found.append(certainty(recipe.table, frame))
    if missing := recipe.options.get("missing"):
        found.append(f"Empty cells have no published weights: {'; '.join(missing)}.")
    return found


def has_paper(frames: Iterable[pd.DataFrame]) -> bool:
    """Whether a number of the paper's stands in any of these tables: it has none of networks that it does not know."""
    return any(frame["paper"].notna().any() for frame in frames)


def certainty(table: str, frame: pd.DataFrame) -> str:
    """What ± is: over how many seeds and images, and by which analysis."""
    scored = frame[(frame["n"] > 0) & (frame["images"].notna() | (definition(table).kind == "cosine"))]
    several = sorted(set(scored["n"][scored["n"] > 1]))
    counts = [f"{int(count):,}" for count in sorted(scored["images"].dropna().unique())]
    images = f"{' or '.join(counts)} test images" if counts else ""
    if not several:
        return f"One seed{', ' + images if images else ''}: {ONE_SEED}, so no interval is given."
    seeds = f"{several[0]} seeds" if len(several) == 1 else "the seeds in parentheses"
    text = f"The interval is over {seeds} " + (f"and {images} ({IMAGES_TOO})." if images else "(Student’s t).")
    noun = {"fraction": "Fractions", "cosine": "Cosines", "accuracy": "Accuracies"}[definition(table).kind]
    return text + (f" {noun} without ± are of one seed: {ONE_SEED}." if (scored["n"] == 1).any() else "")


def table_html(recipe: Table, frame: pd.DataFrame, notes: Sequence[str], links: Links | None = None) -> str:
    """Caption, table and notes; style it with STYLE. `links`: (row, column) -> where the number in a cell leads."""
    links = links or {}
    rows, columns, cells = grid(recipe, frame)
    titles = titles_of(recipe)
    head = "".join(f"<th>{escape(title(column, titles))}</th>" for column in columns)
    body = ""
    for row, rule in parted(recipe, rows):
        places = [(row, column) for column in columns]
        cols = "".join(f"<td>{cell_html(cells.get(at, Shown()), links.get(at, ''))}</td>" for at in places)
        body += f"<tr{' class=family' if rule else ''}><th scope=row>{escape(title(row, titles))}</th>{cols}</tr>\n"
    name, text = caption(recipe)
    return (
        f'<div class="paper-table"><p class="caption"><b>{name}.</b> {escape(text)}</p>\n<div class="scroll"><table>'
        f"<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
        f'<p class="notes">{escape(" ".join(notes))}</p></div>'
    )


def cell_html(cell: Shown, link: str = "") -> str:
    ours = f"<b>{cell.ours}</b>" if cell.best else cell.ours
    ours = f'<a href="{escape(link)}">{ours}</a>' if link else ours
    spread = f' <span class="spread">{cell.spread}</span>' if cell.spread else ""
    paper = f'<span class="paper">{cell.paper}</span>' if cell.paper else ""
    return ours + spread + paper


LATEX = {"&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}"}
LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " ", "\r": " "}
LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
LATEX |= {"−": "$-$", "±": r"$\pm$", "·": r"$\cdot$", "×": r"$\times$"}
LATEX |= {"⚗": r"\alembic{}", "↑": r"$\uparrow$", "—": "---", "’": "'"}
"""A character -> what prints it: all that LaTeX takes for its own, those that its fonts lack, and our symbols."""
LATEX_HEAD = r"""% needs \usepackage{booktabs,xcolor}
\providecommand{\alembic}{\textsuperscript{d}}
"""


def latex(text: str) -> str:
    """Text with LaTeX's special characters written out."""
    return "".join(LATEX.get(character, character) for character in text)


def table_latex(recipe: Table, frame: pd.DataFrame, notes: Sequence[str]) -> str:
    """A booktabs table environment; the alembic of distilled students is a macro that can be redefined."""
    rows, columns, cells = grid(recipe, frame)
    titles = titles_of(recipe)
    lines = [" & ".join(["", *(latex(title(column, titles)) for column in columns)]) + r" \\", r"\midrule"]
    for row, rule in parted(recipe, rows):
        of_row = [cells.get((row, column), Shown()) for column in columns]
        lines += [r"\midrule"] if rule else []
        lines.append(" & ".join([latex(title(row, titles)), *map(cell_latex, of_row)]) + r" \\")
        if any(cell.paper for cell in of_row):
            lines.append(" & ".join(["", *(grey_latex(cell.paper) for cell in of_row)]) + r" \\")
    text = latex(f"{caption(recipe)[1]}. {' '.join(notes)}")
    begin = ["\\begin{table}", "\\centering", f"\\caption{{{text}}}", f"\\begin{{tabular}}{{l{'r' * len(columns)}}}"]
    end = [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return LATEX_HEAD + "\n".join([*begin, r"\toprule", *lines, *end])


def cell_latex(cell: Shown) -> str:
    ours = rf"\textbf{{{latex(cell.ours)}}}" if cell.best else latex(cell.ours)
    return ours + (rf" {{\scriptsize {latex(cell.spread)}}}" if cell.spread else "")


def grey_latex(text: str) -> str:
    return rf"{{\scriptsize\color{{gray}}{latex(text)}}}" if text else ""
