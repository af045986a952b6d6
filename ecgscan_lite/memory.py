"""Memory of a long computation: the process keeps what one step frees for the next one."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of mallopt's parameters, from glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors free, for as long as this process runs; for the command line to call.

    The activations of a training step are large blocks, and glibc returns each to the system when it is freed: the
    next step has every page of it mapped and zeroed again. Does nothing where the C library is another one.

    Returns:
        Whether memory is kept now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return False
    choices = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 64 << 20}
    return all(mallopt(parameter, value) == 1 for parameter, value in choices.items())
