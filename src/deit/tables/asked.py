"""What a table asks of a study: its params, and the runs of its cells. A plan reads this, so nothing here is slow."""

from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import Field

from deit.bounds import Recipe

FINETUNED = "-finetuned"
"""Ends the name of a row or column of fine-tuned runs."""
TOKEN_ROWS = {
    "token_class": "class",
    "token_distillation": "distillation",
    "token_fusion": "fusion",
    "token_fusion_logits": "fusion_logits",
}
"""Row of a run with a distillation token -> the head through which it is read. Fusion by softmax is the paper's, by
logits the released code's."""


class TableParams(Recipe):
    """What a params file may say of any table."""

    caption: str = ""
    """In place of the table's own caption; empty = that."""
    decimals: Annotated[int, Field(ge=0, le=4)] = 1
    """Of the numbers shown; the CSV files have all."""


class Runs(Protocol):
    """The runs of a study. A run is named by model, supervision, teacher, resolution and seed."""

    @property
    def study(self) -> Any:
        """The params."""

    @property
    def labels(self) -> str:
        """The supervision by true labels, that of every teacher."""

    @property
    def resolutions(self) -> tuple[int, int]:
        """Of pre-training and of fine-tuning, in pixels."""

    def run(self, model: str, supervision: str, teacher: str, resolution: int, seed: int, variant: str = "") -> Any:
        """One run; `teacher` is empty, or not looked at, where the supervision takes none."""

    def seeded(self, model: str, supervision: str, teacher: str, resolution: int, variant: str = "") -> list[Any]:
        """A run for every seed of its model."""

    @property
    def teacher_a_seed(self) -> bool:
        """Whether students of each seed have teachers of their own."""

    def is_convnet(self, model: str) -> bool: ...

    def taken(self, run: Any, data: str) -> list[Any]:
        """A run of the study's own images on a data set of `transfer`, for every seed of its model."""

    def objective(self, run: Any) -> Any:
        """What a run learns from."""

    def phase(self, run: Any) -> Any:
        """How a run is trained: its epochs and all else."""


Wanted = dict[tuple[str, str, str, str], list[Any]]
"""(row, column, head, evaluation set) of a cell -> its runs, one a seed. Rows and columns carry the names under which
`src/deit/paper/*.csv` holds the paper's own numbers."""


class Measured(NamedTuple):
    """Models whose images per second a table shows; transformers with and without a distillation token."""

    convnets: list[str] = []
    students: list[str] = []
    """At the lower resolution."""
    finetuned: list[str] = []
    """At the higher resolution."""


def of_labels(runs: Runs, model: str) -> list[Any]:
    """The runs of a teacher, which learn from labels at the lower resolution: one, or one a seed."""
    all_seeds = runs.seeded(model, runs.labels, "", runs.resolutions[0])
    return all_seeds if runs.teacher_a_seed else all_seeds[:1]


def family(runs: Runs, run: Any) -> str:
    """What a network is, asked of its kind and objective, never of its name: convnet, deit or deit-distilled (⚗)."""
    if runs.is_convnet(run.model):
        return "convnet"
    return "deit-distilled" if runs.study.supervision[run.supervision].loss == "token" else "deit"
