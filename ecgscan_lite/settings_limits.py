"""What the types of settings do not express: ranges of numbers, and names that have to be known."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ecgscan_lite.rendering import LAYOUTS, SHEETS
from ecgscan_lite.rendering.ageing import find_ageing
from ecgscan_lite.rendering.names import by_name
from ecgscan_lite.settings_tables import SettingsError
from ecgscan_lite.tasks import task_names

if TYPE_CHECKING:
    from ecgscan_lite.settings import Settings

LOSS_TERMS = ("pairwise", "gram", "reconstruction", "visibility", "placement", "soft_lead")


def check_limits(settings: Settings) -> None:
    """Check the settings of a run before it starts. NaN fails every comparison, and so is refused.

    Raises:
        SettingsError: a number is out of range, or nothing has such a name.
    """
    positive = {
        "data.findings_per_step": settings.data.findings_per_step,
        "page.height": settings.page.height, "page.width": settings.page.width,
        "towers.embedding_dim": settings.towers.embedding_dim, "towers.decoder_dim": settings.towers.decoder_dim,
        "optimiser.epochs": settings.optimiser.epochs, "optimiser.learning_rate": settings.optimiser.learning_rate,
        "optimiser.clip_norm": settings.optimiser.clip_norm, "loss.temperature": settings.loss.temperature,
        "run.validate_records": settings.run.validate_records,
    }  # fmt: skip
    not_negative = {
        "data.records": settings.data.records, "run.seed": settings.run.seed,
        "run.checkpoint_every": settings.run.checkpoint_every, "run.validate_every": settings.run.validate_every,
        "optimiser.micro_batch": settings.optimiser.micro_batch,
        "optimiser.weight_decay": settings.optimiser.weight_decay,
        **{f"loss.{n}": getattr(settings.loss, n) for n in LOSS_TERMS},
    }  # fmt: skip
    share = {
        "optimiser.warm_up": settings.optimiser.warm_up, "loss.label_smoothing": settings.loss.label_smoothing,
        "loss.soft_lead_warm_up": settings.loss.soft_lead_warm_up,
    }  # fmt: skip
    for name, value in positive.items():
        _require(value > 0, name, value, "above 0")
    for name, value in not_negative.items():
        _require(value >= 0, name, value, "0 or more")
    _require(
        0 <= settings.optimiser.final_rate <= 1, "optimiser.final_rate", settings.optimiser.final_rate, "from 0 to 1"
    )
    for name, value in share.items():
        _require(0 <= value < 1, name, value, "from 0 to below 1")
    _require(
        0 < settings.loss.reconstruction_share <= 1, "loss.reconstruction_share", settings.loss.reconstruction_share,
        "above 0 and at most 1",
    )  # fmt: skip
    _require(64 <= settings.page.height <= 4000, "page.height", settings.page.height, "64 to 4000 px")
    _require(64 <= settings.page.width <= 4000, "page.width", settings.page.width, "64 to 4000 px")
    _require(settings.optimiser.batch_size >= 2, "optimiser.batch_size", settings.optimiser.batch_size, "2 or more")
    _require(settings.run.seed < 2**31, "run.seed", settings.run.seed, "below 2**31")
    _require(
        settings.towers.decoder_dim % 32 == 0, "towers.decoder_dim", settings.towers.decoder_dim, "a multiple of 32"
    )
    _check_names(settings)


def _check_names(settings: Settings) -> None:
    """That there are such layouts, ageings, sheets and tasks: else it shows when the first page is drawn."""
    page = settings.page
    names = [
        *(
            ("page.layouts", partial(by_name, "layout", known=dict.fromkeys(LAYOUTS, ())), layout)
            for layout in page.layouts
        ),
        *(("page.ageing", find_ageing, ageing) for ageing in page.ageing if ageing != "none"),
        *(
            ("page.sheets", partial(by_name, "sheet", known=dict.fromkeys(("full", *SHEETS), ())), sheet)
            for sheet in page.sheets
        ),
        ("data.task", task_names, settings.data.task),
    ]
    for name, find, value in names:
        try:
            find(value)
        except ValueError as error:
            raise SettingsError(f"{name}: {error}") from None


def _require(fulfilled: bool, name: str, value: Any, allowed: str) -> None:
    if not fulfilled:
        raise SettingsError(f"{name} = {value} has to be {allowed}")
