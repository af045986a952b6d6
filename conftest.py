"""Tests and notebooks run side by side: one thread each, here and in the kernels, set before torch is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
