"""Memory that is kept: the pages of a large block are mapped once, and not at every step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from ecgscan_lite.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):  # freed blocks grow together until the next one fits
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(1 << 24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_serves_the_next_step() -> None:
    faults = {
        choice: int(subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, check=True).stdout)
        for choice in ("keep", "return")
    }
    assert faults["keep"] < faults["return"] / 10
