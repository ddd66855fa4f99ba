"""A run's optimiser step as one CUDA graph: the host launches it at once, however many operations it is made of.

A graph does the same to the same memory each time. So what differs from step to step is copied to places that stay.
The first steps of a process run as they are, and warm up what a capture must not meet: kernels that are loaded or
compiled, an optimiser's state that is made. The next step is captured, which computes nothing, and then replayed.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from deit.learn.optimizers import FUSED, capturable
from deit.networks.distributed import Place
from deit.store.job import Execution

WARM_UP = 3
"""Steps, as many as torch's `make_graphed_callables` takes."""


class StepGraph:
    """The step of one run, on a stream of its own, beside those of other runs."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device, log: logging.LoggerAdapter) -> None:
        self.optimizer, self.device, self.log = optimizer, device, log
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.inputs: Any = None
        """What the run is shown, at places that stay; see `hold`."""
        self.warm_up = WARM_UP
        self.replay: Callable[[], None] | None = None

    def launch(self, step: Callable[[Any], None]) -> None:
        """Takes the step from `inputs`. What it alters is not to be touched before `join`."""
        if self.stream:
            self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            if self.warm_up:
                self.warm_up -= 1
                step(self.inputs)
            else:
                self.replay = self.replay or self.capture(lambda: step(self.inputs))
                self.replay()

    def join(self) -> None:
        """Lets what the device is told from now on come after the step; the host does not wait."""
        if self.stream:
            torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """What replays the step; where torch cannot capture it, the step itself, and the log says why."""
        try:
            with capturable(self.optimizer):
                replay = captured(step, self.stream)
        except RuntimeError as error:
            self.optimizer.zero_grad()  # what was captured of them was never computed
            reason = str(error).partition("\n")[0]
            # Ending a capture that failed fails, too: that is the error, and its context what could not be captured.
            self.log.warning(
                "steps go on operation by operation, as no CUDA graph could be captured: %s", reason, exc_info=True
            )
            return step
        held = torch.cuda.memory_reserved(self.device) / 1e9 if self.stream else 0.0
        self.log.info("a step is one CUDA graph from now on; the process holds %.1f GB of the GPU's memory", held)
        return replay


def captured(step: Callable[[], None], stream: torch.cuda.Stream | None) -> Callable[[], None]:
    """What does to the device all that the step does there; the step is not done yet."""
    graph = torch.cuda.CUDAGraph()
    # Threads that load views may pin memory meanwhile, which only a capture of this thread alone allows.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        step()
    return graph.replay


def step_graph(
    execution: Execution, optimizer: torch.optim.Optimizer, place: Place, log: logging.LoggerAdapter
) -> StepGraph | None:
    """The graph that `execution` asks for; None where it asks for none, or there can be none, as the log says."""
    if not execution.graph:
        return None
    if reason := why_none(optimizer, place):
        log.warning("steps are taken operation by operation, not as one CUDA graph: %s", reason)
        return None
    return StepGraph(optimizer, place.device, log)


def why_none(optimizer: torch.optim.Optimizer, place: Place) -> str:
    """Why a run's step cannot be a graph; empty where it can."""
    if place.device.type != "cuda":
        return f"it runs on {place.device}"
    if place.world > 1:
        return f"{place.world} processes sum their gradients in between"
    if not isinstance(optimizer, FUSED):
        return f"{type(optimizer).__name__} asks the host whether a step counts"
    return ""


def hold(shown: Iterable[tuple[StepGraph, Any]]) -> None:
    """Copies what runs are shown at a step, a NamedTuple of tensors or None each, to the inputs of their graphs.

    A run is shown the same shapes at every step. Those that are shown one and the same tensor at the first of them
    share a place, and have to share it at every step, as runs of one stream do.
    """
    holds: dict[int, Tensor] = {}
    """id of a tensor that is shown -> the place to which it was copied."""
    for graph, tensors in shown:
        if graph.inputs is None:
            shared = (holds.get(id(tensor)) for tensor in tensors)
            graph.inputs = tensors._make(
                torch.empty_like(tensor) if place is None and tensor is not None else place
                for place, tensor in zip(shared, tensors, strict=True)
            )
        for place, tensor in zip(graph.inputs, tensors, strict=True):
            if tensor is not None and holds.get(id(tensor)) is not place:
                holds[id(tensor)] = place.copy_(tensor)
