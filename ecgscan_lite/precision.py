"""Numerical precision of a step: bf16 where it suffices, single precision where rounding errors would matter."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def single_precision(device: torch.device) -> AbstractContextManager[object]:
    """Switch autocast off, on devices that have it: bf16 keeps eight bits, an error of up to 4 uV in 1 mV."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bf16 for "bf16" and, where the device has instructions for it, for "auto"; else float32."""
    if precision == "auto" and device.type == "cuda":
        precision = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    elif precision == "auto":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        precision = "bf16" if supported() else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32
