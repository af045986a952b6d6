"""Embedding: pages a second through `embed_images`, beside the bare image encoder, and the time to load the weights.

    python benchmarks/embedding.py --out book/results/embedding.json

Both get the same pages, of the model's size, in the same batches on one core, in turns, with what is freed kept, as
`ecgscan embed` does; timm's encoder alone gets them as normalized floats, and does not pool. Loading is timed in new
processes, after the import of torch and timm, with the hub switched off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from keep_result import best, keep

import ecgscan_lite as es
from ecgscan_lite.datasets import open_dataset
from ecgscan_lite.memory import keep_freed_memory

PAGES, BATCH = 256, 64
LOADING = """
import time, timm, torch
start = time.perf_counter()
import ecgscan_lite as es
es.load(device="cpu")
print(time.perf_counter() - start)
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--weights", help="a run's folder; the package's own if not given")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    model = es.load(arguments.weights, device="cpu")
    dataset = open_dataset("synthetic", split="test", n=PAGES)
    signals = torch.stack([torch.from_numpy(record.signal) for record in dataset])
    pages = es.render(signals, dataset.fs, size=model.page_size).image
    floats = [model.image_encoder.normalize(batch) for batch in pages.split(BATCH)]

    def encoder() -> None:
        with torch.inference_mode():
            for batch in floats:
                model.image_encoder.backbone.forward_features(batch)

    bare, whole = best([encoder, lambda: model.embed_images(pages, batch_size=BATCH)], arguments.repeats)
    offline = os.environ | {"HF_HUB_OFFLINE": "1"}
    loading = [
        float(subprocess.check_output([sys.executable, "-c", LOADING], text=True, env=offline)) for _ in range(5)
    ]
    result = {
        "encoder": model.encoder_settings.image, "page_size": list(model.page_size),
        "pages_per_second": PAGES / whole, "bare_encoder_pages_per_second": PAGES / bare,
        "share_of_bare_speed": bare / whole, "load_seconds": statistics.median(loading),
    }  # fmt: skip
    print(
        f"{result['pages_per_second']:.0f} pages/s, {result['share_of_bare_speed']:.1%} of the encoder's bare "
        f"{result['bare_encoder_pages_per_second']:.0f}; weights loaded in {result['load_seconds']:.2f} s"
    )
    if arguments.out:
        keep(result, arguments.out, __file__, ("timm",))


if __name__ == "__main__":
    main()
