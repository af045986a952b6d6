"""What `ecgscan pretrain --dry-run` prints: the cost of a run as text."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.cost import RunCost, describe_text_encoder, estimate
from ecgscan_lite.training.data import open_corpus, training_rows

DEVICES = (1, 8, 64)
RECORDS = 800_000  # about as many as MIMIC-IV-ECG has
NOTES = """\
FLOP: matrix products, convolutions and attention, forward and backward. Rendering the pages does not count.
MB kept: what autograd keeps for the backward pass, counted without a GPU. Pages, gradients of activations and the
allocator's reserve come on top."""


def estimate_run(settings: Settings, records: int | None = None) -> tuple[RunCost, str]:
    """The cost of a run, and where its number of records is from.

    Args:
        settings: settings of the run.
        records: number of training records; None counts those of the corpora if all are there, or takes `RECORDS`.

    Raises:
        ValueError: timm has no such image encoder, or there are fewer records than one batch.
    """
    found = None if records else records_on_disk(settings)
    cost = estimate(settings, records or found or RECORDS)
    if cost.steps == 0:
        raise SettingsError(f"{cost.records} records are fewer than one batch of {settings.optimizer.batch_size}")
    return cost, "as given" if records else "of the corpora" if found else "assumed; --corpus-size sets them"


def describe_run(cost: RunCost, origin: str) -> str:
    """Parts, totals, and memory by number of devices, from what `estimate_run` returns."""
    parts, optimizer = cost.parts, cost.settings.optimizer
    flops = parts["forward"] + parts["backward"]
    table = parts[["trained", "frozen"]] / 1e6
    table = table.assign(GFLOP=flops / 1e9, share=100 * flops / cost.flops_per_record, kept=parts["kept"] / 1e6)
    table.columns = ["million trained", "million frozen", "GFLOP a record", "%", "MB kept a record"]
    table.loc["all"] = table.sum()
    memory = pd.DataFrame({f"{n} x {cost.records_at_once(n)} records": cost.memory(n) for n in DEVICES}) / 1e9
    memory.loc["all"] = memory.sum()
    name, (parameters, width) = cost.settings.encoders.text, describe_text_encoder(cost.settings.encoders.text)
    size = f"{parameters:,} parameters" if parameters else f"is not on this machine: a width of {width} is assumed"
    tables = [x.to_string(float_format="{:,.2f}".format) for x in (table, memory)]
    step = optimizer.batch_size * cost.flops_per_record
    return f"""\
{tables[0]}
text encoder, frozen, run once for each text: {name!r} {size}

{cost.records:,} records ({origin}), {optimizer.epochs} epochs, {cost.steps:,} steps of {optimizer.batch_size}: \
{step / 1e12:,.2f} TFLOP a step, {cost.steps * step / 1e15:,.1f} PFLOP in all

Memory of each device, GB, by number of devices and records at once
{tables[1]}

{NOTES}"""


def records_on_disk(settings: Settings) -> int | None:
    """Training records of the corpora that the settings name; None where one of them is not there."""
    if not all(name == "synthetic" or Path(name).is_dir() for name in settings.data.corpus):
        return None
    if "synthetic" in settings.data.corpus:
        return settings.data.records or None
    return len(training_rows(settings, open_corpus(settings)))
