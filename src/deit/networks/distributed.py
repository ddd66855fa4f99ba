"""Where a process computes: its device, its rank among those that torchrun started, and sums over all of them."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from deit.see.finishing import on_device
from deit.store.job import Execution
from deit.store.ranks import ending_together


@dataclass(frozen=True)
class Place:
    """This process among `world` processes, one a GPU; alone unless torchrun started it."""

    device: torch.device
    rank: int = 0
    world: int = 1

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world} on {self.device}"

    @property
    def writes(self) -> bool:
        """Whether this is the process that logs and writes files."""
        return self.rank == 0

    def sent(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; the host does not wait for the copy."""
        return on_device(tensor, self.device)

    def sum_over_ranks(self, tensors: list[Tensor]) -> None:
        """Replaces each tensor by its sum over the ranks; one message for all tensors of a type."""
        if self.world == 1:
            return
        for dtype in {tensor.dtype: None for tensor in tensors}:
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in same])
            dist.all_reduce(flat)
            for tensor, part in zip(same, flat.split([tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def largest_over_ranks(self, number: int) -> int:
        """The largest of the ranks' numbers; passes through the CPU, so the GPU need not be waited for."""
        if self.world == 1:
            return number
        shared = torch.tensor(number)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def read_once(self, read: Callable[[], bytes | None]) -> bytes | None:
        """What rank 0 reads, given to every rank: so none can go on from something else. Its refusal ends them all."""
        if self.world == 1:
            return read()
        said: list[Any] = [None, None]
        if self.rank == 0:
            try:
                said[0] = read()
            except SystemExit as refusal:
                said[1] = str(refusal)
        dist.broadcast_object_list(said, 0, device=torch.device("cpu"))
        if said[1] is not None:
            raise self.refusal(said[1])
        return said[0]

    def of_all_ranks(self, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
        """Each rank's tensors, on the CPU, in the order of ranks; their shapes are the same on all."""
        if self.world == 1:
            return [tensors]
        gathered = []
        for tensor in tensors:
            gathered.append([torch.empty_like(tensor) for _ in range(self.world)])
            dist.all_gather(gathered[-1], tensor)
        return list(zip(*gathered, strict=True))

    def numbers_of_all_ranks(self, number: int) -> list[int]:
        return [int(one) for (one,) in self.of_all_ranks(torch.tensor([number]))]

    def refusal(self, message: str) -> SystemExit:
        """What every rank raises where all know of the error: rank 0 alone says why."""
        return SystemExit(message if self.writes else 1)


def set_up_torch(execution: Execution) -> torch.device:
    """The device that `execution` asks for; makes torch compute with its threads, reproducibly and in true fp32.

    Raises SystemExit where a GPU is asked for and there is none.
    """
    if execution.gpus and not torch.cuda.is_available():
        raise SystemExit(
            f"The recipe's execution asks for {execution.gpus} GPU(s) a node, but torch finds none on this machine. "
            "Set gpus to 0 for the CPU, or run where there is one."
        )
    torch.set_flush_denormal(True)  # momenta of dead channels decay to numbers that CPUs are many times slower with
    torch.set_num_threads(execution.threads)
    take_reproducible_kernels(execution.deterministic)
    compute_in_true_fp32()
    if not execution.gpus:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def take_reproducible_kernels(only: bool) -> None:
    """Kernels that give the same bits each time; torch raises RuntimeError where an operation has none.

    It is not asked to warn only: flash and memory-efficient attention would then keep the backward that is not
    reproducible, though each has one that is. cuDNN's attention has none.
    """
    # cuBLAS needs this for reproducible sums, and reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(only)
    torch.backends.cuda.enable_cudnn_sdp(not only)
    # Filling fresh memory would only make the reading of uninitialised memory reproducible.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore[missing-attribute]


def compute_in_true_fp32() -> None:
    """No TensorFloat-32, PyTorch's default in convolutions, which rounds fp32 inputs to 10 bits.

    By torch's older names alone: after the newer `fp32_precision`, reading these raises, as torch.compile does.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def joined_ranks(execution: Execution) -> Iterator[Place]:
    """This process's place; joins the other ranks where torchrun has set WORLD_SIZE, and leaves them at the end.

    Raises as `ending_together`. After an error the process group is left as it is, as other ranks may not answer.
    """
    device = set_up_torch(execution)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Place(device)
        return
    store, rank, world = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if execution.gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    with ending_together(store):
        yield Place(device, rank, world)
    dist.destroy_process_group()
