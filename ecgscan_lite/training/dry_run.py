"""What `ecgscan pretrain --dry-run` prints: the budget of a run, and the hours that follow from measured speeds."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.cost import TIMM_ON_THE_HUB, Budget, encoder_flops, estimate

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

DEVICES = (1, 8, 64)
RECORDS = 800_000  # about what MIMIC-IV-ECG holds
PUBLISHED = Path(__file__).with_name("published_speeds.toml")
GPU_RECORD = Path(__file__).parents[2] / "book" / "results" / "pretraining_gpu.json"  # in a clone that holds one


@dataclass(frozen=True)
class Speed:
    """How much arithmetic devices of a kind get through in training.

    Attributes:
        device: what they are.
        what: was trained.
        flops: by number of devices, floating-point operations a second of all of them.
        source: where that stands.
    """

    device: str
    what: str
    flops: dict[int, float]
    source: str

    def at(self, devices: int) -> float:
        """Of a number of devices: from the nearest that was measured above it, or below, in proportion."""
        measured = min((n for n in self.flops if n >= devices), default=max(self.flops))
        return self.flops[measured] * devices / measured


def published_speeds() -> list[Speed]:
    """What others published, with the arithmetic of their encoders counted here."""
    flops = lru_cache(encoder_flops)
    speeds = []
    for row in tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["speed"]:
        size = tuple(row["size"])
        rates = {int(n): rate * flops(row["encoder"], size) for n, rate in row["images_per_second"].items()}
        what = f"{row['encoder']}, {size[0]}x{size[1]}, precision {row['precision']}"
        speeds.append(Speed(row["device"], what, rates, row["source"]))
    return speeds


def measured_speeds(path: str | Path, encoder: str = "") -> list[Speed]:
    """What `benchmarks/pretraining.py` measured: the batch that ran fastest, of an encoder, or else of each.

    Raises:
        SettingsError: it is no such record.
    """
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
        best: dict[str, Speed] = {}
        for row in record["steps"]:
            what = f"{row['encoder']}, {row['size'][0]}x{row['size'][1]}, batch {row['batch']}"
            rate = float(row["records_per_second"]) * float(row["flops_per_record"])
            if rate <= 0:
                raise ValueError("a speed that is not above 0")
            speed = Speed(str(record["device"]), what, {1: rate}, f"{Path(path).name}, {record['date']}")
            if row["encoder"] not in best or rate > best[row["encoder"]].at(1):
                best[row["encoder"]] = speed
        return [best[encoder]] if encoder in best else list(best.values())
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise SettingsError(f"{path}: no record of benchmarks/pretraining.py ({reason})") from None


def dry_run(
    settings: Settings, records: int | None = None, measured: Path | None = None, price: float | None = None
) -> list[RenderableType]:
    """Count what a run takes, and put it into tables.

    Args:
        records: that it learns from; None counts those of the corpora if all are there, and else takes `RECORDS`.
        measured: record of `benchmarks/pretraining.py`; without one, what others published serves.
        price: of a device for an hour, in any currency.

    Raises:
        ValueError: timm has no such image encoder, or `measured` is no record.
    """
    found = None if records else records_on_disk(settings)
    budget = estimate(settings, records or found or RECORDS)
    if budget.steps == 0:
        raise SettingsError(f"{budget.records} records are fewer than one batch of {settings.optimizer.batch_size}")
    if measured is None and GPU_RECORD.is_file():
        measured = GPU_RECORD
    encoder = settings.encoders.image.removeprefix(TIMM_ON_THE_HUB).partition(".")[0]
    speeds = measured_speeds(measured, encoder) if measured else published_speeds()
    origin = "as given" if records else "of the corpora" if found else "assumed; --corpus-size says otherwise"
    size = settings.optimizer.batch_size
    of_step = size * budget.flops_per_record
    return [
        parts_table(budget),
        f"{budget.records:,} records ({origin}), {settings.optimizer.epochs} epochs, {budget.steps:,} steps of {size}: "
        f"{of_step / 1e12:,.2f} TFLOP a step, {budget.steps * of_step / 1e15:,.1f} PFLOP in all\n",
        memory_table(budget), hours_table(budget, speeds, price), *notes(budget, speeds, bool(measured), price),
    ]  # fmt: skip


def records_on_disk(settings: Settings) -> int | None:
    """Training records of the corpora that the settings name; None where one of them is not there."""
    from ecgscan_lite.training.batches import open_corpus, training_rows

    if not all(name == "synthetic" or Path(name).is_dir() for name in settings.data.corpus):
        return None
    if "synthetic" in settings.data.corpus:
        return settings.data.records or None
    return len(training_rows(settings, open_corpus(settings)))


def parts_table(budget: Budget) -> Table:
    """Parameters of each part, and the work of a record."""
    table = _table("part", "trained", "frozen", "GFLOP a record", "share", "MB kept a record", title="What is trained")
    losses = budget.losses.times(1 / budget.settings.optimizer.batch_size)
    for part in budget.parts:
        share = part.work.flops / budget.flops_per_record
        kept = f"{part.work.kept / 1e6:,.1f}"
        cells = (f"{part.trained:,}", f"{part.frozen:,}", f"{part.work.flops / 1e9:,.2f}", f"{share:.1%}", kept)
        table.add_row(part.name, *cells)
    share = losses.flops / budget.flops_per_record
    table.add_row("losses", "-", "-", f"{losses.flops / 1e9:,.2f}", f"{share:.1%}", f"{losses.kept / 1e6:,.1f}")
    text = "not here" if budget.text_parameters is None else f"{budget.text_parameters:,}"
    table.add_row("text encoder", "0", text, "once a text", "-", "-")
    trained, frozen = (sum(getattr(part, kind) for part in budget.parts) for kind in ("trained", "frozen"))
    kept = sum(part.work.kept for part in budget.parts) + losses.kept
    table.add_section()
    table.add_row(
        "all", f"{trained:,}", f"{frozen + (budget.text_parameters or 0):,}",
        f"{budget.flops_per_record / 1e9:,.2f}", "100.0%", f"{kept / 1e6:,.1f}",
    )  # fmt: skip
    return table


def memory_table(budget: Budget) -> Table:
    """Memory of each device, by the number of devices that share the batch."""
    table = _table("GB on each of", *map(str, DEVICES), title="Memory, estimated")
    table.add_row("records at once", *(str(budget.records_at_once(n)) for n in DEVICES))
    columns = [budget.memory(n) for n in DEVICES]
    for name in columns[0]:
        table.add_row(name, *(f"{column[name] / 1e9:,.2f}" for column in columns))
    table.add_section()
    table.add_row("all", *(f"{sum(column.values()) / 1e9:,.2f}" for column in columns))
    return table


def hours_table(budget: Budget, speeds: list[Speed], price: float | None) -> Table:
    """Hours of the run by device and their number, and what they cost where a price is given."""
    cost = ["cost"] if price is not None else []
    table = _table(
        "device", "number", "TFLOP/s of each", "hours", "device-hours", *cost, title="Hours, from measured speeds"
    )
    for number, speed in enumerate(speeds, start=1):
        for n in DEVICES:
            hours = budget.flops(n) / speed.at(n) / 3600
            cells = [str(n), _short(speed.at(n) / n / 1e12), _short(hours), _short(n * hours)]
            cells += [_short(price * n * hours)] if price is not None else []
            table.add_row(_plain(f"{speed.device} [{number}]") if n == DEVICES[0] else "", *cells)
        table.add_section()
    return table


def notes(budget: Budget, speeds: list[Speed], own: bool, price: float | None) -> list[str]:
    """What was counted, what was assumed, and where the speeds come from."""
    lines = [
        "FLOP: matrix products, convolutions and attention, forward and backward. Drawing the pages is not among them.",
        "MB kept: what autograd keeps for the backward pass, counted without a GPU. Pages, gradients of activations "
        "and the allocator's reserve come on top.",
    ]
    if any(budget.encodes_twice(n) for n in DEVICES):
        lines.append("Where a device's share of the batch exceeds optimizer.micro_batch, hours include encoding twice.")
    if budget.text_parameters is None:
        lines.append(
            f"The configuration of the text encoder {budget.settings.encoders.text!r} is not on this machine: "
            f"a width of {budget.text_width} is assumed, and its parameters are not counted."
        )
    if own:
        lines.append("Speeds are of whole steps of this library on one device; several are taken in proportion.")
    else:
        lines.append(
            "Speeds are of other encoders that others trained, turned into FLOP/s by the image encoder's arithmetic. Where "
            "they did not publish a number of devices, it is taken in proportion; few records on each are slower. A "
            "step of this library also draws pages. For your own machine: python benchmarks/pretraining.py --out FILE, "
            "and --measured FILE here."
        )
    if price is None:
        lines.append("Cost: give --price, what a device costs for an hour.")
    lines += [f"[{n}] {speed.device}: {speed.what}. {speed.source}" for n, speed in enumerate(speeds, start=1)]
    return [_plain(line) for line in lines]


def _table(first: str, *others: str, title: str) -> Table:
    from rich.table import Table

    table = Table(first, title=title, title_justify="left")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _plain(text: str) -> str:
    """Brackets as they are, and no markup."""
    return text.replace("[", "\\[")


def _short(x: float) -> str:
    """Three digits, and no exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:,.3g}" if x >= 0.1 else f"{x:.4f}"
