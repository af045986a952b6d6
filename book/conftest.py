"""Where notebooks are tested without the tests beside them: their kernels, too, have one thread each."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
