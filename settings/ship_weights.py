"""The weights that come with the package, and their card.

    python settings/ship_weights.py RUN          # from a finished run to ecgscan_lite/weights, in half precision
    python settings/ship_weights.py              # write the card from the records in book/results
    python settings/ship_weights.py --check      # check that the card agrees with the records

The records are those of `ecgscan quickstart --pretrained`, and, on the small PTB-XL subset, of

    ecgscan evaluate ecgscan_lite/weights --data CORPUS --task super --shift --shift-layout 3x4+1 --shift-layout 3x4 \\
        --shift-layout 6x2 --shift-layout 12x1 --shift-ageing scan:3 --shift-ageing photo:3
    ecgscan evaluate ecgscan_lite/weights --data CORPUS --task super --sheet letter
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS, RESULTS = ROOT / "ecgscan_lite" / "weights", ROOT / "book" / "results"
CARD = WEIGHTS / "README.md"


def ship(run: Path) -> None:
    """Copy a run's model in half precision, with its settings and the list of its training records."""
    from ecgscan_lite.models.ecgscan import load

    description = json.loads((run / "model.json").read_text(encoding="utf-8"))
    pretraining = description["pretraining"]
    for table, name in (("data", "corpus"), ("run", "initial_weights"), ("encoders", "signal_weights")):
        given = pretraining.get(table, {}).get(name, "")  # the names of folders, not where they were
        names = [Path(one).name for one in ([given] if isinstance(given, str) else given)]
        pretraining.get(table, {})[name] = names[0] if isinstance(given, str) else names
    load(run, device="cpu").save(WEIGHTS, half=True, pretraining=pretraining, steps=description["steps"])
    records = pd.read_parquet(run / "records.parquet")
    records.sort_values(["dataset", "record_id"]).to_parquet(WEIGHTS / "records.parquet", index=False)


def card() -> str:
    """The card, in Markdown."""
    description = json.loads((WEIGHTS / "model.json").read_text(encoding="utf-8"))
    learned = pd.read_parquet(WEIGHTS / "records.parquet")["dataset"].value_counts()
    real, letter, synthetic = (
        json.loads((RESULTS / f"weights_on_{name}.json").read_text(encoding="utf-8"))
        for name in ("ptbxl_mini", "ptbxl_mini_letter", "synthetic")
    )
    data, page, encoders = (description["pretraining"][table] for table in ("data", "page", "encoders"))
    size = sum(file.stat().st_size for file in WEIGHTS.glob("model.safetensors")) / 1e6
    records = " and ".join(f"{count:,} {_NAMES.get(name, name)}" for name, count in learned.sort_index().items())
    return f"""# Model card: the weights in the package

An image encoder of electrocardiograms with the signal encoder, the heads and the decoder that it was trained with:
`es.load()`. {size:.1f} MB in half precision, safetensors.

| | |
| --- | --- |
| image encoder | {encoders["image"]}, pages of {page["height"]} x {page["width"]} px, taken whole |
| learned from | {records}; text: {data["text"]} of the records, where there are any, and no labels |
| pages | rendered at every step: {_list(page["layouts"])}; ageing: {_list(page["ageing"])} |
| paper sizes | {_list(page["paper_sizes"])}; "full" is as wide and high as the image |
| made by | {_STAGES}, seed {description["pretraining"]["run"]["seed"]} |
| versions | torch {real["run"]["versions"]["torch"]}, timm {real["run"]["versions"]["timm"]} |

## What it is for

Embedding images of twelve-lead electrocardiograms for search, clustering and classifiers of your own; trying the
library; teaching. **Not for** the care of a patient, in any form. It is small, has seen {learned.get("ptbxl", 0):,}
real records of one data set, and no real scan or photograph: all its pages were rendered by this library, three wide to
two high, or on US letter or A4. The tables below say what it loses on degraded pages that were rendered likewise; what
it loses on real ones is not known. A score ranks images by a finding, and is not a probability.

## Results on real records: the small PTB-XL subset

{real["run"]["data"]}; no patient of the test was seen in pretraining. The subset's
split is its own, so the results are not comparable with published ones. 95 % intervals by bootstrap over patients.

{_summary(real)}

Zero-shot, by statement; those with fewer than 10 positives in the test are in the record, and not here:

{_by_statement(real)}

On pages of other layouts, and on degraded ones, of severity 3 on a scale from 1 to 5:

{_by_pages(real)}

On US letter, on its side, clean 3x4+1; the probe was fitted on letter, too:

{_summary(letter)}

## Results on synthetic records

{synthetic["run"]["data"]}; those of the test were not seen in pretraining.
They say that the machinery works, not how well it reads real electrocardiograms.

{_summary(synthetic)}
"""


_NAMES = {"ptbxl": "real records of PTB-XL (the small subset's training folds)", "synthetic": "synthetic records"}
_GRID = ("zero_shot", "clean_to_worn")
_STAGES = "`ecgscan pretrain`, three runs, with the files in `settings/shipped`"


def _list(names: str | list[str]) -> str:
    return ", ".join([names] if isinstance(names, str) else dict.fromkeys(names))


def _summary(results: dict[str, Any]) -> str:
    rows = ["| macro AUROC | image | random encoder | signal encoder |", "| --- | --- | --- | --- |"]
    for name, key in (("zero-shot", "zero_shot"), ("linear probe", "linear_probe")):
        cells = [f"{_interval(results[who][key], 'macro_auroc')}" for who in ("image", "random", "signal")]
        rows.append(f"| {name}, {len(_frequent(results['image'][key]))} classes | {' | '.join(cells)} |")
    read = results["reconstruction"]
    return "\n".join(rows) + (
        f"\n\nLeads read off the page: correlation {read['correlation']:.3f} where the page shows them, "
        f"limb identities violated by {read['limb_residual_mv']:.4f} mV."
    )


def _by_statement(results: dict[str, Any]) -> str:
    rows = ["| statement | AUROC | signal encoder | positives of n |", "| --- | --- | --- | --- |"]
    image, signal = (_frequent(results[who]["zero_shot"]) for who in ("image", "signal"))
    for code, row in sorted(image.items(), key=lambda item: -item[1]["auroc"]):
        positives = f"{row['n_positive']} of {row['n']}"
        rows.append(f"| {code} | {_interval(row, 'auroc')} | {signal[code]['auroc']:.3f} | {positives} |")
    return "\n".join(rows)


def _by_pages(results: dict[str, Any]) -> str:
    rows = [
        "| pages | zero-shot | probe fitted on clean 3x4+1 | correlation of the leads read |",
        "| --- | --- | --- | --- |",
    ]
    for row in results["shift"]:
        look = f"{row['ageing']}, severity {row['severity']}" if row["severity"] else "clean"
        numbers = [f"{row[key]:.3f} [{row[f'{key}_low']:.3f}, {row[f'{key}_high']:.3f}]" for key in _GRID]
        rows.append(f"| {row['layout']}, {look} | {' | '.join(numbers)} | {row['correlation']:.3f} |")
    return "\n".join(rows)


def _frequent(result: dict[str, Any]) -> dict[str, Any]:
    """The classes that enter the mean: those with enough positives."""
    return {code: row for code, row in result["statements"].items() if not row["note"]}


def _interval(row: dict[str, Any], key: str) -> str:
    low, high = row["interval"]
    return f"{row[key]:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Ship, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="folder of a finished run")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.run:
        ship(arguments.run)
    elif not arguments.check:
        CARD.write_text(card(), encoding="utf-8")
    elif not CARD.is_file() or CARD.read_text(encoding="utf-8") != card():
        sys.exit("the card is out of step with the records: run python settings/ship_weights.py")


if __name__ == "__main__":
    main()
