"""What Snakemake is told beside a study's params: in params/study.yaml, in a profile's `config:`, by `--config`."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from study.problem import refusal
from study.types_told import explained

SOURCES = Path("params/study.yaml, --config or the profile's config")
"""Of a key; Snakemake has merged them."""


class Config(BaseModel):
    """The keys; `--config` gives true and false as text."""

    model_config = ConfigDict(extra="forbid")
    study: Annotated[str, BeforeValidator(str)]
    """To plan; a name of digits is a number to YAML."""
    gres_only: bool = False
    """The cluster knows GPUs by --gres alone (docs/cluster.md)."""
    as_if_new: bool = False
    """As if nothing were finished: for drawings of the whole DAG."""


def read_config(config: dict) -> Config:
    """What Snakemake's `config` says. Raises ParamsError for an unknown key, or a value that is none of its key."""
    try:
        return Config.model_validate(config)
    except ValidationError as error:
        raise refusal(explained(error, config, "", Config), [(SOURCES, config)]) from None
