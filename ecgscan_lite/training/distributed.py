"""The processes of a run: one alone, or several that `torchrun` or `accelerate launch` started."""

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
from torch import Tensor

from ecgscan_lite.settings import SettingsError

TIMEOUT = timedelta(minutes=10)  # after which a process stops waiting for one that has gone
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process and how many there are beside it.

    Attributes:
        device: where this process computes.
        number: of this process, from 0.
        count: of all of them.
        host: group for what is exchanged between processors, not devices; None where there is one process.
    """

    device: torch.device
    number: int = 0
    count: int = 1
    host: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.number == 0

    @property
    def own(self) -> slice:
        """This process's records of a batch: every `count`-th, so that each has its share of any part of the batch."""
        return slice(self.number, None, self.count)

    def sizes(self, size: int) -> list[int]:
        """How many records each process has of something."""
        if self.count == 1:
            return [size]
        sizes = torch.zeros(self.count, dtype=torch.long)
        sizes[self.number] = size
        dist.all_reduce(sizes, group=self.host)
        return sizes.tolist()

    def gather(self, x: Tensor, sizes: list[int]) -> Tensor:
        """The rows of all processes, in the order of their numbers; the gradient of each goes back to where it is from.

        Shape: (sizes[number], ...); returns (sum(sizes), ...).
        """
        if self.count == 1:
            return x
        return _Gather.apply(x.float() if x.is_floating_point() else x, sizes, self.number)

    def first_of(self, sizes: list[int]) -> int | None:
        """The number of this process's first row among those of all; None where there is one process."""
        return None if self.count == 1 else sum(sizes[: self.number])

    def total(self, x: Tensor) -> Tensor:
        """The sum over the processes, without gradient."""
        if self.count > 1:
            x = x.detach().clone()
            dist.all_reduce(x, group=self.host if x.device.type == "cpu" else None)
        return x

    def first_then_others(self, work: Callable[[], T]) -> T:
        """Do something in the first process, and in the others when it is done: they find the files that it wrote."""
        result = self.together(work if self.is_first else lambda: None)
        if self.count > 1:
            others = self.together(lambda: None if self.is_first else work())
            result = result if self.is_first else others
        return result

    def together(self, work: Callable[[], T]) -> T:
        """Do something that may fail in every process; if it fails in any, all end, and one says why.

        Raises:
            SystemExit: it failed in another process.
        """
        error, result = None, None
        try:
            result = work()
        except Exception as raised:
            if self.count == 1:
                raise
            error = raised
        if self.count > 1:
            failed = torch.tensor(self.number if error else self.count)
            try:
                dist.all_reduce(failed, dist.ReduceOp.MIN, group=self.host)
            except RuntimeError:  # another process is gone, and has said why if it could
                raise error or SystemExit(2) from None
            if error and failed == self.number:
                raise error
            if failed < self.count:
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
        raise SettingsError(f"run.device = {name!r} is not to be had: {str(error).splitlines()[0]}") from None


@cache
def _join(kind: str) -> Processes:
    from accelerate import PartialState

    state = PartialState(cpu=kind == "cpu", timeout=TIMEOUT)
    host = dist.new_group(backend="gloo", timeout=TIMEOUT)
    atexit.register(dist.destroy_process_group)
    return Processes(state.device, state.process_index, state.num_processes, host)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int], number: int) -> Tensor:
        ctx.own = slice(sum(sizes[:number]), sum(sizes[: number + 1]))
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[ctx.own], None, None
