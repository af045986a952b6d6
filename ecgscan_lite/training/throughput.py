"""How fast a run is: records a second, the wait for data, and the share of the device's arithmetic that is used."""

from __future__ import annotations

import copy
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from ecgscan_lite.models.ecgscan import ECGScan
from ecgscan_lite.models.lead_decoder import SAMPLES
from ecgscan_lite.settings import Settings

PEAK_SIZES = {"cuda": 8192, "cpu": 1024}  # of the square matrices that the peak is measured with


class Meter:
    """Measures steps.

    Model FLOP utilisation counts the matrix products, convolutions and attention of encoders, heads and decoder, forward
    and backward, once (what is encoded again to save memory does not count), against the fastest of a few large matrix
    products in the run's precision, measured at its start.

    Args:
        settings: of the run.
        model: on its device.
        dtype: that is computed in.
        processes: how many there are.
    """

    def __init__(self, settings: Settings, model: ECGScan, dtype: torch.dtype, processes: int) -> None:
        self.records = settings.optimizer.batch_size
        work = flops_per_record(model, settings) * self.records
        self.seconds_at_peak = work / (processes * peak_flops(model.device, dtype))
        self.start = time.perf_counter()

    def step(self, waited: float) -> dict[str, float]:
        """Figures of the step that ends now, of which some seconds went by until its batch was there."""
        now = time.perf_counter()
        taken, self.start = now - self.start, now
        return {
            "records_per_second": self.records / taken,
            "data_wait": waited / taken,
            "model_flops_utilisation": self.seconds_at_peak / taken,
        }

    def restart(self) -> None:
        """Begin to count anew, after something that is no step."""
        self.start = time.perf_counter()


def flops_per_record(model: ECGScan, settings: Settings) -> float:
    """Floating-point operations to learn from a record, forward and backward, counted on a copy without contents."""
    twin, records = copy.deepcopy(model).to("meta").train(), 2
    modalities = settings.data.modalities.split(",")
    reads = "signal" in modalities and (settings.loss.reconstruction or settings.loss.soft_lead)
    page, decoder = None, 0.0
    with FlopCounterMode(display=False) as encoders:
        outputs = []
        if "signal" in modalities:
            features = twin.signal_encoder(torch.empty(records, 12, SAMPLES, device="meta"))
            outputs.append(twin.signal_head(features))
        for _ in range(modalities.count("image")):
            pages = torch.empty(records, 3, *twin.page_size, dtype=torch.uint8, device="meta")
            page = twin.image_encoder(pages)
            outputs.append(twin.image_head(page.features))
        torch.cat(outputs).sum().backward()
    if page is not None and reads:
        tokens = page.tokens.detach().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            twin.decoder(page._replace(tokens=tokens)).leads.sum().backward()
        decoder = settings.loss.reconstruction_share * counter.get_total_flops()
    return (encoders.get_total_flops() + decoder) / records


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of a few products of large square matrices."""
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
