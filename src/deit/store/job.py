"""What a command is asked to do: resolved, validated, immutable.

A *job* is one step of the pipeline. Its recipe, the digests of what it is made from and the behaviour of its code
determine its result, and so its digest, which ends the name of the folder that it fills. `execution` says how to run it
(GPUs, workers, where the data lies); it may be edited freely, because it changes no result.

The descriptions below the fields are docstrings on purpose: they can be reworded without giving any result a new name.
"""

import hashlib
import json
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from deit.bounds import AsList, Count, Machines, Minutes, Recipe, Size

DIGEST_LENGTH = 10
GPU_PARTS = 24
"""In which a GPU is shared among jobs."""
ROOMS = ("see", "networks", "teach", "learn", "tables")


class Resources(Recipe):
    """What a job may use; changes no result."""

    gpus: Annotated[int, Field(ge=0, le=1000)] = 0
    """GPUs a node; 0 = CPU. All GPUs together must divide the mix groups of a batch (batch / mix_group). Only trainings
    and passes take more than one."""
    share: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 1
    """Jobs that may use one GPU at the same time, for small networks; with the profile `local` alone. Those with other
    numbers can share one, too: one with 2 and four with 8 fill a GPU."""
    nodes: Machines = 1
    """Nodes of a training or pass; a run takes `gpus` x `nodes` GPUs."""
    threads: Machines = 1
    """CPU threads of a process. Trap: another number may change last bits of what a CPU computes."""
    workers: Annotated[int, Field(ge=0, le=1000)] = 0
    """Data loading processes a GPU; 0 = in the training process. Each takes a CPU core: a job asks for `gpus` x
    (`threads` + `workers`) a node. Views are the same for any number."""
    groups_per_forward: Size = 0
    """Mix groups in one forward pass on one GPU; 0 = all of its share (no gradient accumulation). Lower it where memory
    runs out. Batch norm takes each group's own statistics all the same, so these do not depend on the GPUs."""
    compile: bool = False
    """torch.compile the student. Networks with batch norm are never compiled. May change last bits."""
    graph: bool = False
    """A training's optimiser step as one CUDA graph, which the host launches at once; the runs of a pass side by side.
    The memory of a forward and backward pass then stays with each run, and a copy of a batch with each job. On a CPU,
    on several GPUs, and with other optimisers than adam, adamw and sgd, nothing changes but a line of the log. Not yet
    tried on a card: run `pytest -m gpu` there before."""
    deterministic: bool = True
    """Only kernels that give the same bits each time on one kind of GPU; a job ends where an operation has none, as the
    gradient of max pooling. False: any kernel, and a run that is repeated or resumed may differ in its last bits, which
    its provenance tells."""
    save_minutes: Minutes = 10
    """Minutes between two saves of the resume state: what a kill costs at most. SIGTERM and time limits save at
    once."""
    validate_epochs: Size = 0
    """Epochs from one look at the accuracy on images that are not learnt from to the next, for those who watch a
    training; 0 = none. Held-out images where the study has some, else the primary evaluation set: choose nothing by the
    latter."""
    mem_mb: Count = 2000
    """MB of memory a node that a cluster is asked for; the first attempt's. Each attempt that ran out of it is followed
    by one with half as much more, up to three times."""
    minutes: Count = 60
    """Time limit in minutes that a cluster is asked for. A training that reaches it saves before and is retried."""


class Execution(Resources):
    """How and where a job is run; changes no result. A result of later code may tell more of it than is known here."""

    model_config = ConfigDict(extra="ignore")

    output: str = ""
    """The folder of the result."""
    folders: dict[str, list[str]] = {}
    """Flag of the command -> folders of the results that it reads."""
    after: list[str] = []
    """Folders of results that must be there before, of which the job reads nothing."""
    validation: dict[str, Any] | None = None
    """What `validate_epochs` looks at: networks/recipes.py's Validation."""
    made_by: str = ""
    """Folder of the pass that makes this result together with others; empty = a job of its own."""
    copy_of: str = ""
    """Folder of the same result in another study, of which this one is to be a copy; empty = a job of its own."""
    data_root: str = ""
    """The folder of the images; of an import, that of the weights."""
    data_key: str = "data"
    """Where the params declare the images: `data`, or `transfer.NAME.data`."""
    decode: bool = True
    """Whether `prepare_data` decodes every image."""


def lock_name(kind: str, digest: str) -> str:
    """By which a job's result is locked; the reports of all plans go to one folder, and have one lock."""
    return kind if kind == "report" else digest


def canonical_digest(content: object) -> str:
    """The first hex digits of the sha256 of `content` as JSON with sorted keys; the same on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def without_none(content: Any) -> Any:
    """A recipe without its keys that are None: a new option that is not used says nothing, and changes no name."""
    if isinstance(content, dict):
        return {key: without_none(value) for key, value in content.items() if value is not None}
    return [without_none(value) for value in content] if isinstance(content, list | tuple) else content


class JobRecipe(Recipe):
    """What determines the result of one kind of job. Its classes are in the rooms of what they ask for."""

    kinds: ClassVar[dict[str, type["JobRecipe"]]] = {}

    def __init_subclass__(cls, *, kind: str = "", **of_pydantic: Any) -> None:
        super().__init_subclass__(**of_pydantic)
        if kind:
            JobRecipe.kinds[kind] = cls


class Job(Recipe):
    """One step of the pipeline, as written to `recipes/<digest>.json`."""

    kind: str
    """Of what is asked: that of its recipe's class."""
    name: str
    """For people; not part of the digest."""
    recipe: dict
    """Of the class that `kind` names."""
    inputs: dict[str, str] = {}
    """Role -> digest of the job that made it."""
    roots: Annotated[tuple[str, ...], AsList] = ()
    """Modules and files from which all code is reached that makes the result (reach.py)."""
    code: str = ""
    """Digest of what that code computes, in whatever files it stands."""
    behaviour: dict[str, str]
    """File of it -> digest of what it computes: says where an edit was, and is no part of the digest."""
    execution: Execution = Execution()

    @property
    def digest(self) -> str:
        return canonical_digest(
            {"kind": self.kind, "recipe": without_none(self.recipe), "inputs": self.inputs, "code": self.code}
        )

    def resolved(self) -> Any:
        """The typed recipe. Its class is known once its room is: by name, as the store knows none of them."""
        for room in ROOMS if self.kind not in JobRecipe.kinds else ():
            import_module(f"deit.{room}.recipes")
        return JobRecipe.kinds[self.kind].model_validate(self.recipe)
