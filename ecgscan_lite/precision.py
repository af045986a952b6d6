"""In which precision a step computes: bf16 where it serves, single precision where a rounding is too much."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch


def single_precision(device: torch.device) -> AbstractContextManager[object]:
    """Without autocast, on devices that have it: bf16 keeps eight bits, and of 1 mV it is wrong by 4 uV."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bf16 where it is asked for, or, for "auto", where the device has instructions for it."""
    if precision == "auto":
        supported: Callable[[], bool]
        if device.type == "cuda":
            supported = torch.cuda.is_bf16_supported
        else:
            supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        return torch.bfloat16 if supported() else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
