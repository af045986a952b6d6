"""Hours and price of a pretraining run on 1, 8 and 64 GPUs, from speeds that were published or measured.

    python benchmarks/hours_and_price.py settings/full.toml --corpus-size 800000 --price 2
    python benchmarks/hours_and_price.py settings/small.toml --measured book/results/pretraining_gpu.json
    python benchmarks/hours_and_price.py settings/full.toml --corpus-size 800000 --out book/results/hours.json

The FLOPs of the run, as `ecgscan pretrain SETTINGS.toml --dry-run` counts them, divided by FLOPs per second: of the
encoders in `published_speeds.toml`, which are counted here in the same way, or with --measured of whole steps of this
library, as `benchmarks/pretraining.py` wrote them. A number of devices that nobody measured is taken in proportion.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import timm
import torch
from keep_result import keep
from rich.console import Console
from rich.table import Table

from ecgscan_lite.files import reason
from ecgscan_lite.reporting.dry_run import DEVICES, estimate_run
from ecgscan_lite.settings import Settings, SettingsError
from ecgscan_lite.training.cost import TIMM_HUB, RunCost, count_flops

PUBLISHED = Path(__file__).with_name("published_speeds.toml")
OWN = "Speeds are of whole steps of this library on one device; several are taken in proportion."
OTHERS = (
    "Speeds are of other encoders that others trained, as FLOPs per second of the image encoder. Where they did not "
    "publish a number of devices, it is taken in proportion; few records on each are slower. A step of this library "
    "also renders pages. For your own machine: python benchmarks/pretraining.py --out FILE, and --measured FILE here."
)


@dataclass(frozen=True)
class Speed:
    """The speed of a kind of device in training.

    Attributes:
        device: kind of the devices.
        what: encoder, page size, and precision or batch size.
        flops: floating-point operations per second of all devices together, by their number.
        source: where this is from.
    """

    device: str
    what: str
    flops: dict[int, float]
    source: str

    def at(self, devices: int) -> float:
        """FLOPs per second of a number of devices: in proportion to the next larger number, or else the largest."""
        measured = min((n for n in self.flops if n >= devices), default=max(self.flops))
        return self.flops[measured] * devices / measured


@lru_cache
def encoder_flops(name: str, size: tuple[int, int]) -> float:
    """FLOPs, forward and backward, of a timm model without a classifier for one image. No weights are fetched."""
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0, **({"img_size": size} if name.startswith("vit") else {}))
        return sum(count_flops(lambda: [encoder.train()(torch.zeros(2, 3, *size))])) / 2


def published_speeds() -> list[Speed]:
    """Speeds that others published, with the FLOPs of their encoders counted here."""
    speeds = []
    for row in tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))["speed"]:
        size = tuple(row["size"])
        rates = {int(n): rate * encoder_flops(row["encoder"], size) for n, rate in row["images_per_second"].items()}
        what = f"{row['encoder']}, {size[0]}x{size[1]}, precision {row['precision']}"
        speeds.append(Speed(row["device"], what, rates, row["source"]))
    return speeds


def measured_speeds(path: str | Path, encoder: str = "") -> list[Speed]:
    """Speeds that `benchmarks/pretraining.py` measured: the fastest batch of an encoder, or else of each encoder.

    Raises:
        SettingsError: the file does not hold results of that benchmark.
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
        raise SettingsError(f"{path}: no record of benchmarks/pretraining.py ({reason(error)})") from None


def hours(cost: RunCost, speed: Speed, devices: int) -> float:
    """Hours of a run on a number of devices."""
    return cost.flops(devices) / speed.at(devices) / 3600


def hours_table(cost: RunCost, speeds: list[Speed], price: float | None) -> Table:
    """Hours of the run by kind and number of devices, and their price."""
    table = Table("device", title="Hours, from measured speeds", title_justify="left")
    for name in ("number", "TFLOP/s of each", "hours", "device-hours", *(["price"] if price is not None else [])):
        table.add_column(name, justify="right")
    for number, speed in enumerate(speeds, start=1):
        for n in DEVICES:
            taken = hours(cost, speed, n)
            numbers = [speed.at(n) / n / 1e12, taken, n * taken, *([price * n * taken] if price is not None else [])]
            table.add_row(f"{speed.device} \\[{number}]" if n == DEVICES[0] else "", str(n), *map(_short, numbers))
        table.add_section()
    return table


def _short(x: float) -> str:
    """Three digits, without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:,.3g}" if x >= 0.1 else f"{x:.4f}"


def main(given: list[str] | None = None) -> None:
    """Estimate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, metavar="SETTINGS.toml", help="settings of the run")
    parser.add_argument("--corpus-size", type=int, help="number of training records, for a run without the corpora")
    parser.add_argument("--measured", type=Path, help="results of benchmarks/pretraining.py")
    parser.add_argument("--price", type=float, help="price of a device for an hour, in any currency")
    parser.add_argument("--out", type=Path, help="write speeds and hours to this JSON file")
    arguments = parser.parse_args(given)
    try:
        settings = Settings.read(arguments.settings)
        cost, origin = estimate_run(settings, arguments.corpus_size)
        encoder = settings.encoders.image.removeprefix(TIMM_HUB).partition(".")[0]
        speeds = measured_speeds(arguments.measured, encoder) if arguments.measured else published_speeds()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    console = Console()
    console.print(f"{cost.records:,} records ({origin}), {cost.steps:,} steps")
    console.print(hours_table(cost, speeds, arguments.price))
    if cost.flops(DEVICES[0]) > cost.flops(DEVICES[-1]):
        console.print("Hours include encoding twice where a device's share of the batch exceeds optimizer.micro_batch.")
    console.print(OWN if arguments.measured else OTHERS)
    for number, speed in enumerate(speeds, start=1):
        console.print(f"\\[{number}] {speed.device}: {speed.what}. {speed.source}")
    if arguments.out:
        rows = [asdict(speed) | {"hours": {n: hours(cost, speed, n) for n in DEVICES}} for speed in speeds]
        keep({"records": cost.records, "speeds": rows}, arguments.out, __file__, ("timm",), given=given)


if __name__ == "__main__":
    main()
