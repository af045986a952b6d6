"""The processes of a run: one alone, or several that `torchrun` or `accelerate launch` started.

accelerate finds the device and sets up the communication; what is added here is the share of each process in a batch,
and that a failure in one process ends all of them with one message.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from ecgscan_lite.files import reason
from ecgscan_lite.settings import SettingsError

TIMEOUT = timedelta(minutes=10)  # after which a process stops waiting for one that has gone
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        device: device that this process computes on.
        rank: number of this process, from 0.
        world_size: number of processes.
        cpu_group: group for what is exchanged between CPUs, not devices; None where there is one process.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    cpu_group: Any = None

    @property
    def is_main_process(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    @property
    def rows(self) -> slice:
        """This process's rows of a batch: every `world_size`-th, so that each has its share of any part of it."""
        return slice(self.rank, None, self.world_size)

    def sizes(self, size: int) -> list[int]:
        """The number of rows that each process has, given that of this one."""
        sizes = torch.zeros(self.world_size, dtype=torch.long)
        sizes[self.rank] = size
        return self.all_reduce_sum(sizes).tolist()

    def gather(self, x: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all processes in the order of their ranks; the gradient of each row goes back to its process.

        Shape: (sizes[rank], ...); returns (sum(sizes), ...).
        """
        if self.world_size == 1:
            return x
        x = x.float() if x.is_floating_point() else x
        padded = F.pad(x, (0, 0) * (x.ndim - 1) + (0, max(sizes) - len(x)))
        parts = all_gather(padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def row_offset(self, sizes: list[int]) -> int | None:
        """The index of this process's first row among those of all; None where there is one process."""
        return None if self.world_size == 1 else sum(sizes[: self.rank])

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """The sum over the processes, without gradient."""
        if self.world_size > 1:
            x = x.detach().clone()
            dist.all_reduce(x, group=self.cpu_group if x.device.type == "cpu" else None)
        return x

    def main_process_first(self, work: Callable[[], T]) -> T:
        """Do something in the main process, and then in the others, which find the files that it wrote."""
        result = self.all_or_none(work if self.is_main_process else lambda: None)
        if self.world_size == 1:
            return result
        others = self.all_or_none(lambda: None if self.is_main_process else work())
        return result if self.is_main_process else others

    def all_or_none(self, work: Callable[[], T]) -> T:
        """Do something that may fail in every process; if it fails in any, all end, and one says why.

        Raises:
            SystemExit: it failed in another process.
        """
        if self.world_size == 1:
            return work()
        error, result = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        first_to_fail = torch.tensor(self.rank if error else self.world_size)
        try:
            dist.all_reduce(first_to_fail, dist.ReduceOp.MIN, group=self.cpu_group)
        except RuntimeError:  # another process is gone, and has said why if it could
            raise error or SystemExit(2) from None
        if error and first_to_fail == self.rank:
            raise error
        if first_to_fail < self.world_size:
            raise SystemExit(2)
        return result


def join_processes(device: str) -> Processes:
    """Meet the other processes, if this one was started as one of several.

    Args:
        device: "auto", "cpu", "cuda", ...; of several processes of a machine each takes a GPU of its own.

    Raises:
        SettingsError: this machine has no such device.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(choose_device(device))
    return _join(choose_device(device).type)


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        SettingsError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise SettingsError(f"run.device = {name!r} is not available: {reason(error)}") from None


@cache
def _join(kind: str) -> Processes:
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu", timeout=TIMEOUT)
    cpu_group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    atexit.register(dist.destroy_process_group)
    return Processes(state.device, state.process_index, state.num_processes, cpu_group)
