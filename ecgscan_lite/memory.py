"""Memory of a long computation: what one step frees is kept for the next one."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of mallopt's parameters, from glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors free, for as long as this process runs.

    The activations of a training step are large blocks, and glibc gives each back to the system when it is freed: the
    next step has every page of it mapped and zeroed anew. Does nothing where the C library is another one.

    Returns:
        Whether memory is kept now.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return False
    choices = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 64 << 20}
    return all(mallopt(parameter, value) == 1 for parameter, value in choices.items())
