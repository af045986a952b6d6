"""How fast a run is: records per second, the wait for data, and model FLOP utilisation."""

from __future__ import annotations

import time

import torch

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.settings import Settings
from ecgscan_lite.training.cost import flops_per_record

PEAK_SIZES = {"cuda": 8192, "cpu": 1024}  # of the square matrices that the peak is measured with


class Meter:
    """Measures the speed of steps.

    Model FLOP utilisation is the share of the device's best speed that the model's arithmetic uses: the FLOPs of
    `flops_per_record`, which count nothing twice, over those of the fastest of a few large matrix products in the run's
    precision, measured at its start.

    Args:
        settings: settings of the run.
        model: the model, on its device.
        dtype: type that the run computes in.
        processes: number of processes.
    """

    def __init__(self, settings: Settings, model: ECGScan, dtype: torch.dtype, processes: int) -> None:
        self.records = settings.optimizer.batch_size
        flops = flops_per_record(model, settings) * self.records
        self.seconds_at_peak = flops / (processes * peak_flops(model.device, dtype))
        self.start = time.perf_counter()

    def step(self, waited: float) -> dict[str, float]:
        """Speed of the step that ends now and has waited so many seconds for its batch."""
        now = time.perf_counter()
        taken, self.start = now - self.start, now
        return {
            "records_per_second": self.records / taken,
            "data_wait": waited / taken,
            "model_flops_utilisation": self.seconds_at_peak / taken,
        }

    def restart(self) -> None:
        """Start the clock again, after something that is not a step."""
        self.start = time.perf_counter()


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs per second of the fastest of a few products of large square matrices."""
    size = PEAK_SIZES.get(device.type, PEAK_SIZES["cpu"])
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(4):  # the first does not count
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:])
