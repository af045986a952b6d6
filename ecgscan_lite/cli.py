"""The command `ecgscan`: it parses, calls the library, and says in one line what went wrong."""

from __future__ import annotations

import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgscan_lite import cli_pages
from ecgscan_lite.cli_pages import Seed, print_table
from ecgscan_lite.ecg.tasks import TASKS
from ecgscan_lite.memory import keep_freed_memory

if TYPE_CHECKING:
    from ecgscan_lite.experiments.evaluate import Evaluation

app = typer.Typer(
    name="ecgscan",
    help="Representations of electrocardiogram images, learned by self-supervision.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Out = Annotated[Path, typer.Option(help="Folder to write to.")]
INTERRUPTED = 130  # exit code
Task = StrEnum("Task", {name: name for name in TASKS})


@app.command(epilog="Example: `ecgscan quickstart --out quickstart`")
def quickstart(
    out: Out = Path("quickstart"),
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only evaluate the package's own weights.")] = False,
    seed: Seed = 0,
) -> None:
    """Synthetic records to pages, pretraining, evaluation and a report, in a few minutes and without a download."""
    from ecgscan_lite.experiments.quickstart import quickstart as run

    _report(run(out, seed=seed, pretrained=pretrained), out)


@app.command(epilog="Example: `ecgscan prepare ptbxl --root ptb-xl/1.0.3 --out corpora/ptbxl`")
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(help="synthetic, ptbxl, mimic_iv_ecg, code15, cpsc2018, georgia, ningbo, csn or folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the corpus.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the publisher's unpacked archive or records.")] = None,
    table: Annotated[Path | None, typer.Option(help="For `folder`: the CSV file, if it is not the only one.")] = None,
    fs: Annotated[int, typer.Option(help="Sampling rate of the corpus, Hz.")] = 100,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one per core if not given.")] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="A Dask scheduler, such as tcp://10.0.0.1:8786; its workers do the work."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of records.")] = None,
    seed: Seed = 0,
) -> None:
    """Read a data set once, and keep it as a corpus that pretraining and evaluation read fast.

    Interrupted, it continues where it was.

    `folder` is WFDB records of your own. A CSV file lists them, with the columns `path` (relative to the root, without
    suffix) and, each as you have it, `patient_id`, `split` (train, val or test), `report`, `age`, `sex` (male, female)
    and `statements` (SCP codes: `NORM;SR`, or JSON); other columns are ignored. Without a split the patient decides.
    """
    from ecgscan_lite.corpus import Corpus
    from ecgscan_lite.corpus import prepare as run

    options = {"seed": seed} if dataset == "synthetic" else {}
    if table is not None:
        options["table"] = table
    corpus = Corpus(run(dataset, root, out, fs=fs, jobs=jobs, scheduler=scheduler, limit=limit, **options))
    refused = corpus.info.get("refused", [])
    print(f"{len(corpus)} records in {out}" + (f"; {len(refused)} refused, see corpus.json" if refused else ""))


app.command(epilog="Example: `ecgscan render records/00001_lr.hea --out pages --ageing photo`")(cli_pages.render)
app.command(epilog="Example: `ecgscan digitize scans --out records --format csv`")(cli_pages.digitize)


@app.command(epilog="Example: `ecgscan pretrain settings.toml`; `ecgscan pretrain --resume runs/pretraining`")
def pretrain(
    settings: Annotated[Path | None, typer.Argument(metavar="SETTINGS.toml", help="Changes to the defaults.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A run's folder to continue.")] = None,
    show_defaults: Annotated[bool, typer.Option("--show-defaults", help="Print all settings, and end.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="In place of the settings' own.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print parameters, FLOPs and memory, and end.")] = False,
    corpus_size: Annotated[int | None, typer.Option(min=1, help="Records, for a dry run without the corpora.")] = None,
) -> None:
    """Pretrain a model: image, signal and text aligned, and the leads reconstructed under the soft-lead constraint."""
    from ecgscan_lite.settings import Settings, SettingsError

    if show_defaults:
        print(Settings().to_toml(), end="")
        return
    if (settings is None) == (resume is None):
        raise SettingsError("give SETTINGS.toml to start a run, or --resume RUN to continue one")
    given = Settings.read(settings if settings else resume / "settings.toml")
    if resume:
        given = given.replace(run__out=str(resume))
    if seed is not None:
        given = given.replace(run__seed=seed)
    if dry_run:
        from ecgscan_lite.reporting.dry_run import describe_run, estimate_run

        print(describe_run(*estimate_run(given, corpus_size)))
        return
    if corpus_size is not None:
        raise SettingsError("--corpus-size goes with --dry-run")
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if is_first:
        print(given.to_toml())
    from ecgscan_lite.training.pretrain import pretrain as run

    folder = run(given, resume=resume is not None)
    if is_first:
        print(f"weights in {folder}")


app.command(epilog="Example: `ecgscan embed scans --out embeddings.parquet --weights runs/pretraining`")(
    cli_pages.embed
)


@app.command(epilog="Example: `ecgscan evaluate runs/pretraining --data corpora/ptbxl --task super --out evaluation`")
def evaluate(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="A run's folder, or a hub id.")] = None,
    data: Annotated[Path | None, typer.Option(help="A corpus made by `ecgscan prepare`.")] = None,
    out: Out = Path("evaluation"),
    claims: Annotated[Path | None, typer.Option(hidden=True)] = None,  # of the first edition, for one version more
    task: Annotated[Task, typer.Option(help="Classes of the linear probe.")] = Task.all,
    layout: Annotated[str, typer.Option(help="Layout of the pages.")] = "3x4+1",
    ageing: Annotated[str, typer.Option(help="Ageing of the pages: none, or one of those of `render`.")] = "none",
    paper_size: Annotated[str, typer.Option("--paper-size", "--sheet", help="full, letter, a4 or strip.")] = "full",
    unconstrained: Annotated[str | None, typer.Option(help="The run without the constraint, to compare with.")] = None,
    splits: Annotated[Path | None, typer.Option(help="CSV of record_id and split, in place of the corpus's.")] = None,
    shift: Annotated[bool, typer.Option("--shift", help="Evaluate on other layouts and ageings too.")] = False,
    shift_layout: Annotated[list[str] | None, typer.Option(help="For --shift; the first is the clean one.")] = None,
    shift_ageing: Annotated[list[str] | None, typer.Option(help="For --shift: scan, photo:3, ...")] = None,
    trained_on: Annotated[Path | None, typer.Option(help="Corpus of pretraining, for statements both have.")] = None,
    seed: Seed = 0,
) -> None:
    """Zero-shot, linear probe, retrieval and reconstruction on a corpus, beside a random encoder and the signal's.

    With --shift, interrupted, the same command continues with the pages that are left.
    """
    if claims:
        given = {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}
        if others := sorted(given - {"claims", "out"}):
            raise typer.BadParameter(f"--claims says all there is to say: leave out {', '.join(others)}")
        _complain("evaluate --claims FILE is now called `ecgscan compare FILE`, and goes away in the next version")
        return compare(claims, out)
    if run is None or data is None:
        raise typer.BadParameter("give RUN and --data")
    from ecgscan_lite.corpus import Corpus
    from ecgscan_lite.corpus.split_files import with_splits
    from ecgscan_lite.evaluation.robustness import SHIFT_AGEINGS, SHIFT_LAYOUTS
    from ecgscan_lite.experiments.evaluate import evaluate_run
    from ecgscan_lite.experiments.robustness import shift_conditions

    corpus = with_splits(Corpus(data), splits) if splits else Corpus(data)
    source = Corpus(trained_on) if trained_on else None
    grid = shift_conditions(shift_layout or SHIFT_LAYOUTS, shift_ageing or SHIFT_AGEINGS) if shift else ()
    evaluated = evaluate_run(
        run, corpus, task=task.value, layout=layout, ageing=ageing, paper_size=paper_size, unconstrained=unconstrained,
        shift=grid, shift_folder=out / "shift", source_of_training=source, seed=seed,
    )  # fmt: skip
    _report(evaluated, out)


@app.command(epilog="Example: `ecgscan compare settings/comparison.toml --out comparison`")
def compare(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS.toml", help="Methods and data sets to compare.")],
    out: Out = Path("comparison"),
) -> None:
    """Train the methods of a comparison on the same pages, evaluate them, and decide each of the paper's four claims.

    Interrupted, the same command continues.
    """
    from ecgscan_lite.experiments.comparison import compare as run
    from ecgscan_lite.reporting.report import write_comparison
    from ecgscan_lite.reporting.tables import COMPARISON_COLUMNS, comparison_table

    result = run(settings, out)
    page = write_comparison(result, out)
    print_table(COMPARISON_COLUMNS, comparison_table(result.results))
    for claim, found in result.results["claims"].items():
        print(f"{claim} {found['verdict']}: {found['claim']}")
    for method, why in result.results["skipped"].items():
        print(f"skipped, {method}: {why}")
    print(f"report: {page}")


app.command("score-pages", epilog="Example: `ecgscan score-pages photographed-set --out scores --jobs 8`")(
    cli_pages.score_pages
)


def main() -> None:
    """Entry point: errors of the user's making are one line and exit code 2, an interrupt is 130."""
    keep_freed_memory()
    warnings.formatwarning = lambda message, *_: f"ecgscan: {message}\n"
    try:
        code = app(standalone_mode=False)  # what a command exits with is returned here, not raised
        if code == INTERRUPTED:  # as newer versions of typer tell it
            raise KeyboardInterrupt
        if isinstance(code, int) and code:
            sys.exit(code)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; the same command continues or starts over")
        sys.exit(INTERRUPTED)
    except Exception as error:
        from_parser = hasattr(error, "format_message")  # typer carries a click of its own, or uses another
        if from_parser:
            _complain(f"{error.format_message()} See: ecgscan --help")
        elif isinstance(error, OSError) and error.strerror:
            _complain(f"{error.filename or 'file'}: {error.strerror}")
        elif isinstance(error, (ValueError, OSError, MemoryError)):
            _complain(" ".join(str(error).split()) or type(error).__name__)
        else:
            raise
        sys.exit(2)


def _complain(message: str) -> None:
    print(f"ecgscan: {message}", file=sys.stderr)


def _report(evaluated: Evaluation, out: Path) -> None:
    """Write the report of an evaluation, and print its main numbers."""
    from ecgscan_lite.reporting.report import plain, write_report
    from ecgscan_lite.reporting.tables import RESULT_COLUMNS, results_table

    page = write_report(evaluated, out)
    print_table(RESULT_COLUMNS, results_table(plain(evaluated.results)))
    print(f"report: {page}")


if __name__ == "__main__":
    main()
