"""Whether the paper's findings show in a study: computed from its tables, each as a sentence with its numbers."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from .titles import title

MARGIN = 1.0
"""Points by which hard distillation must beat no distillation at every size (the paper: 2.1, 1.1, 1.2)."""


@dataclass(frozen=True)
class Finding:
    claim: str
    """The paper's finding."""
    status: str
    """shown, not shown, or not measured."""
    evidence: tuple[str, ...]
    """Ours and the paper's numbers, one comparison each."""
    remark: str = ""
    """What to keep in mind."""


@dataclass(frozen=True)
class Gain:
    """One cell minus another."""

    what: str
    ours: float
    error: float
    """Standard error of `ours`: of seeds and test images, as if both sides were independent (they share images)."""
    paper: float

    def text(self) -> str:
        paper = f" (paper {signed(self.paper)})" if not math.isnan(self.paper) else ""
        return f"{self.what} {signed(self.ours)} ± {self.error:.1f}{'*' if self.unsure else ''}{paper}"

    @property
    def unsure(self) -> bool:
        """Within two standard errors of zero."""
        return abs(self.ours) < 2 * self.error


def signed(value: float) -> str:
    return f"{'−' if round(value, 1) < 0 else '+'}{abs(value):.1f}"


def findings(
    frames: Mapping[str, pd.DataFrame],
    titles: Mapping[str, str] | None = None,
    families: Mapping[str, str] | None = None,
) -> list[Finding]:
    """The paper's findings that the tables at hand (name -> frame) can tell of.

    `families` tells of each teacher of Table 2 whether it is a convnet or a deit.
    """
    found: list[Finding] = []
    if "table_3" in frames:
        found += distillation_findings(Numbers(frames["table_3"], titles))
    if "table_2" in frames:
        found += teacher_findings(Numbers(frames["table_2"], titles), families or {})
    if "table_4" in frames:
        found.append(agreement_finding(Numbers(frames["table_4"], titles)))
    if "token_analysis" in frames:
        found.append(cosine_finding(Numbers(frames["token_analysis"], titles)))
    return found


class Numbers:
    """A frame by (row, column)."""

    def __init__(self, frame: pd.DataFrame, titles: Mapping[str, str] | None):
        self.cells = frame.set_index(["row", "column"])
        self.columns = list(dict.fromkeys(frame["column"]))
        self.rows = list(dict.fromkeys(frame["row"]))
        self.titles = titles

    def ours(self, row: str, column: str) -> float:
        """nan where the study has no such cell."""
        return self.cells["ours"].get((row, column), math.nan)

    def gain(self, better: tuple[str, str], worse: tuple[str, str], what: str) -> Gain:
        """The first cell minus the second; nan where one is missing."""
        if not {better, worse} <= set(self.cells.index):
            return Gain(what, math.nan, math.nan, math.nan)
        first, second = self.cells.loc[better], self.cells.loc[worse]
        error = math.hypot(standard_error(first), standard_error(second))
        return Gain(what, first.ours - second.ours, error, first.paper - second.paper)

    def gains(self, better: str, worse: str, columns: Iterable[str] | None = None) -> list[Gain]:
        """One row minus another in each column."""
        columns = self.columns if columns is None else columns
        return [self.gain((better, column), (worse, column), title(column, self.titles)) for column in columns]


def standard_error(cell: pd.Series) -> float:
    """Of an accuracy in percent: chance of the test images, and of the seeds where there are several."""
    share = cell.ours / 100
    images = 100**2 * share * (1 - share) / cell.images if cell.images > 0 else 0.0
    seeds = cell["std"] ** 2 / cell.n if cell.n > 1 else 0.0
    return math.sqrt(images + seeds)


def judged(claim: str, gains: list[Gain], holds: Callable[[float], bool]) -> Finding:
    """Shown if every gain that was measured holds; those within two standard errors of zero get an asterisk."""
    gains = [gain for gain in gains if not math.isnan(gain.ours)]
    if not gains:
        return unmeasured(claim)
    status = "shown" if all(holds(gain.ours) for gain in gains) else "not shown"
    return Finding(claim, status, tuple(gain.text() for gain in gains))


def unmeasured(claim: str) -> Finding:
    return Finding(claim, "not measured", (), "The study does not have these runs.")


def positive(gain: float) -> bool:
    return gain > 0


def distillation_findings(table: Numbers) -> list[Finding]:
    """Table 3."""
    sizes = [column for column in table.columns if not column.endswith("-finetuned")]
    either = [
        table.gain(("token_fusion", column), (f"token_{head}", column), f"{title(column, table.titles)} over {head}")
        for column in table.columns
        for head in ("class", "distillation")
    ]
    finer = [
        table.gain((row, column), (row, column.removesuffix("-finetuned")), title(row, table.titles))
        for row in ("labels", "soft", "hard", "token_fusion")
        for column in table.columns
        if column.endswith("-finetuned")
    ]
    return [
        judged(
            f"Hard distillation beats no distillation at every size, by at least {MARGIN:g} point.",
            table.gains("hard", "labels", sizes),
            lambda gain: gain >= MARGIN,
        ),
        judged(
            "Hard distillation beats usual (soft) distillation at every size.", table.gains("hard", "soft"), positive
        ),
        judged(
            "The distillation token, read by class + distillation, beats hard distillation without it.",
            table.gains("token_fusion", "hard"),
            positive,
        ),
        judged("Class + distillation is at least as good as either head.", either, lambda gain: gain >= 0),
        judged(
            "The distillation embedding is better than the class embedding.",
            table.gains("token_distillation", "token_class"),
            positive,
        ),
        judged("Fine-tuning at the higher resolution helps.", finer, positive),
    ]


def teacher_findings(table: Numbers, families: Mapping[str, str]) -> list[Finding]:
    """Table 2."""
    transformers = [row for row in table.rows if families.get(row) == "deit"]
    convnets = [row for row in table.rows if families.get(row) == "convnet"]
    phases = [column for column in ("pretrained", "finetuned") if column in table.columns]
    gains = [
        table.gain(
            (convnet, phase),
            (transformer, phase),
            f"{title(convnet, table.titles)}{' ↑' if phase == 'finetuned' else ''}",
        )
        for transformer in transformers
        for phase in phases
        for convnet in convnets
    ]
    beyond = [
        table.gain(
            (row, "finetuned" if "finetuned" in phases else "pretrained"), (row, "teacher"), title(row, table.titles)
        )
        for row in convnets
    ]
    return [
        judged("Every convnet is a better teacher than the transformer, for the same student.", gains, positive),
        judged("The student, fine-tuned, outgrows its convnet teacher.", beyond, positive),
    ]


def agreement_finding(table: Numbers) -> Finding:
    """Table 4."""
    claim = "Distillation brings decisions nearer to the convnet’s, those of the distillation head most."
    rows = ("deit", "token_class", "token_distillation")
    far = [table.ours("convnet", row) for row in rows]
    if any(math.isnan(value) for value in far):
        return unmeasured(claim)
    theirs = [table.cells["paper"].get(("convnet", row), math.nan) for row in rows]
    numbers = [
        f"{title(row, table.titles)} {a:.3f} (paper {b:.3f})" for row, a, b in zip(rows, far, theirs, strict=True)
    ]
    status = "shown" if far[0] > far[1] > far[2] else "not shown"
    return Finding(claim, status, tuple(numbers), "Fraction of images on which each differs from the convnet.")


def cosine_finding(table: Numbers) -> Finding:
    """Token analysis: from nearly orthogonal to alike, layer by layer, but less alike than two class tokens."""
    claim = "The two tokens start apart and grow alike layer by layer, yet stay less alike than two class tokens would."
    evidence, holds = [], []
    for column in [column for column in table.columns if column.endswith("/token")]:
        cosines, control = cosines_of(table, column), cosines_of(table, column.replace("/token", "/two_class_tokens"))
        if cosines:
            beside = f" (control: {control[-1]:.3f})" if control else ""
            path = " → ".join(f"{cosine:.2f}" for cosine in cosines)
            evidence.append(f"{title(column, table.titles)} {path}{beside}")
            holds.append(cosines == sorted(cosines) and cosines[-1] < (control[-1] if control else 1))
    if not evidence:
        return unmeasured(claim)
    theirs = " … ".join(f"{value:g}" for value in table.cells["paper"].dropna().drop_duplicates())
    remark = f"Cosine at the input, then after each layer. The paper: {theirs} (input, last layer, control)."
    return Finding(claim, "shown" if all(holds) else "not shown", tuple(evidence), remark)


def cosines_of(table: Numbers, column: str) -> list[float]:
    """At the input, then layer by layer; empty where they were not measured."""
    cosines = [table.ours(row, column) for row in table.rows]
    return [cosine for cosine in cosines if not math.isnan(cosine)]
