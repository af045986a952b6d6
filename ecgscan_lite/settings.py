"""What a run can be told: one dataclass per concern, read from TOML, checked, and printed with every run.

A field's type is its check. Nothing heavy is imported here, neither torch nor the rendering: the names of layouts,
degradations and paper sizes are part of the settings' types, and a test compares them with the tables that define them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.toml_tables import SettingsError as SettingsError  # for those who import settings
from ecgscan_lite.toml_tables import as_toml, read_toml, rename, validate

LOSS_TERMS = ("pairwise", "gram", "reconstruction", "visibility", "position", "soft_lead")

Layout = Literal[
    "3x4", "3x4+1", "3x4+3", "6x2", "6x2+1", "12x1", "3x4-cabrera", "3x4+1-cabrera", "3x4+3-cabrera", "6x2-cabrera",
    "6x2+1-cabrera", "12x1-cabrera",
]  # fmt: skip
PaperSize = Literal["full", "letter", "a4", "strip"]
Degradation = Literal[
    "scan", "photo", "worn", "0001-rendered", "0003-colour-scan", "0004-bw-scan", "0005-photo-of-print",
    "0006-photo-of-screen", "0009-photo-of-stained", "0010-photo-of-damaged", "0011-colour-scan-of-mouldy",
    "0012-bw-scan-of-mouldy",
]  # fmt: skip
TextPooling = Literal["own", "cls", "mean"]


def split_ageing(ageing: str) -> tuple[str, int | None]:
    """The preset and the severity, if there is one, that a name of an ageing stands for: "photo:3" is photo, 3.

    Raises:
        ValueError: there is no such preset or severity; the message says which there are.
    """
    preset, colon, severity = ageing.partition(":")
    if preset not in get_args(Degradation):
        raise ValueError(f"unknown ageing {preset!r}: choose one of {', '.join(get_args(Degradation))}, or an Ageing")
    if colon and severity not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"unknown severity {severity!r} in {ageing!r}: choose from 1, slight, to 5, severe")
    return preset, int(severity) if colon else None


def _as_tuple(value: Any) -> Any:
    """One name stands for a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Several = BeforeValidator(_as_tuple)
Names = Annotated[tuple[str, ...], Field(min_length=1), Several]
Ageing = Annotated[str, AfterValidator(lambda ageing: (ageing == "none" or split_ageing(ageing)) and ageing)]
Task = Annotated[str, AfterValidator(lambda task: task_names(task) and task)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, gt=0)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Pixels = Annotated[int, Field(strict=True, ge=64, le=4000)]
Positive = Annotated[float, Field(strict=True, gt=0)]  # NaN fails every comparison, and so is refused
NotNegative = Annotated[float, Field(strict=True, ge=0)]
Fraction = Annotated[float, Field(strict=True, ge=0, lt=1)]


@dataclass(frozen=True)
class DataSettings:
    """Which records are learned from.

    Attributes:
        corpus: "synthetic", a folder made by `ecgscan prepare`, or several of these, learned from together.
        records: the largest number of training records taken from each corpus; 0 takes all.
        modalities: "image,signal,text", or "signal,text" for signal pretraining, which renders no pages. Baselines are
            "image,text", without any signal; "image,image", two pages of a record (SimCLR); and "image,labels", the
            classes of `task` (supervised; the weights with the best validation are kept).
        text: where the text of a record comes from. "reports": its own report, and a record without one takes no part
            in the text terms; "labels": text made from its statements, which is supervision and no self-supervision;
            "none": no text terms.
        text_unit: "finding": each step takes findings, one sentence or clause each, from the report of a record, which
            is what prompts look like; "report": the text as a whole.
        findings_per_step: the number of findings that each step takes from a record.
        task: the classes of "image,labels", one of `tasks.TASKS`.
    """

    corpus: Names = ("synthetic",)
    records: CountOrZero = 0
    modalities: Literal["image,signal,text", "signal,text", "image,text", "image,image", "image,labels"] = (
        "image,signal,text"
    )
    text: Literal["reports", "labels", "none"] = "reports"
    text_unit: Literal["finding", "report"] = "finding"
    findings_per_step: Count = 4
    task: Task = "all"


@dataclass(frozen=True)
class PageSettings:
    """The pages that the image encoder sees, rendered again at every step.

    Attributes:
        layouts: names of page layouts; each page has one of them, those that are named twice twice as often.
        height, width: size of the image, px.
        ageing: names of ageing presets, with a severity ("photo:2") or without, or "none"; each page has one of them.
        paper_sizes: shapes of the paper; each page has one of them. "full" has the shape of the image; "letter", "a4"
            and "strip" are fitted into it whole, on white.
    """

    layouts: Annotated[tuple[Layout, ...], Field(min_length=1), Several] = ("3x4+1",)
    height: Pixels = 128
    width: Pixels = 192
    ageing: Annotated[tuple[Ageing, ...], Field(min_length=1), Several] = ("none",)
    paper_sizes: Annotated[tuple[PaperSize, ...], Field(min_length=1), Several] = ("full",)


@dataclass(frozen=True)
class EncoderSettings:
    """The encoders.

    Attributes:
        image: name of any timm model that gives intermediate features, such as "vit_large_patch14_clip_336.openai"; a
            name that begins with "hf-hub:" is fetched from the hub.
        image_options: further arguments of `timm.create_model`.
        image_pretrained: start from timm's published weights.
        signal: "resnet" or "vit".
        signal_weights: a run's folder or a hub id whose signal encoder to start from, whatever its other encoders; ""
            starts from random weights.
        signal_frozen: keep the signal encoder as `signal_weights` or `run.initial_weights` has it ("locked", as in LiT,
            Zhai et al., CVPR 2022); its head is trained all the same.
        text: "minilm" (the weights installed with this package), a folder, or a hub id of sentence-transformers.
        text_pooling: how the tokens of a text become one embedding: "own", as the files of that model say; "cls", the
            first token; or "mean". The files of a plain transformers model do not say: its card does.
        embedding_dim: D, the dimension of the joint space.
        decoder_dim: width of the decoder that reconstructs the leads, a multiple of 32.
    """

    image: str = "resnet10t"
    image_options: dict[str, Any] = field(default_factory=lambda: {"channels": [24, 64, 160, 320], "stem_width": 8})
    image_pretrained: Flag = False
    signal: Literal["resnet", "vit"] = "resnet"
    signal_weights: str = ""
    signal_frozen: Flag = False
    text: str = "minilm"
    text_pooling: TextPooling = "own"
    embedding_dim: Count = 128
    decoder_dim: Annotated[int, Field(strict=True, gt=0, multiple_of=32)] = 128


@dataclass(frozen=True)
class LossSettings:
    """Weights of the terms of the loss, and the parameters of the terms.

    Attributes:
        gram: weight of the Gram volume loss over image, signal and text.
        pairwise: weight of the mean of the pairwise losses image-signal, image-text and signal-text.
        pairwise_kind: "infonce" or "sigmoid".
        reconstruction: weight of the reconstruction of what the page shows.
        visibility: weight of the classification of what the page shows.
        position: weight of the loss of where on the page each lead is.
        soft_lead: weight of the soft-lead constraint, per mV of mean absolute residual.
        soft_lead_warmup_fraction: fraction of the steps over which that weight rises linearly from 0. Leads that can't
            be read yet obey the constraint best when they are flat, and with the full weight at once they can stay so.
        reconstruction_share: fraction of the records of a step whose leads are reconstructed; a page has thousands of
            samples to learn from, so that a part of the records suffices, and costs less.
        temperature: initial temperature; it is learned.
        label_smoothing: label smoothing of the Gram volume and InfoNCE losses.
    """

    gram: NotNegative = 1.0
    pairwise: NotNegative = 1.0
    pairwise_kind: Literal["infonce", "sigmoid"] = "infonce"
    reconstruction: NotNegative = 3.0
    visibility: NotNegative = 0.03
    position: NotNegative = 0.1
    soft_lead: NotNegative = 0.3
    soft_lead_warmup_fraction: Fraction = 0.5
    reconstruction_share: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    temperature: Positive = 0.07
    label_smoothing: Fraction = 0.1


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        epochs: passes over the training records.
        batch_size: records per step, over all processes; contrastive losses see all of them.
        micro_batch: number of records that a process encodes at once, so that a large batch fits in memory: each part
            is encoded twice, the second time for its gradient (Gao et al., RepL4NLP 2021); 0 encodes all at once.
        learning_rate: peak learning rate.
        min_lr_ratio: learning rate at the end, as a fraction of the peak; 1 for a run that another one continues.
        weight_decay: weight decay of matrices and kernels; gains, biases and temperatures have none.
        warmup_fraction: fraction of the steps over which the learning rate rises.
        max_grad_norm: norm that the gradient is clipped to.
        precision: "bf16" autocast, "fp32", or "auto": bf16 where the device computes in it.
    """

    epochs: Count = 6
    batch_size: Annotated[int, Field(strict=True, ge=2)] = 64
    micro_batch: CountOrZero = 0
    learning_rate: Positive = 2e-3
    min_lr_ratio: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    weight_decay: NotNegative = 0.05
    warmup_fraction: Fraction = 0.1
    max_grad_norm: Positive = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is kept.

    Attributes:
        out: folder of the run.
        initial_weights: a run's folder to start from, or "" for random weights.
        seed: seed of the weights, the order of the records, and the pages.
        device: "auto", "cpu", "cuda", ...
        compile: compile the image and signal encoders with `torch.compile`; it needs a C++ compiler or Triton.
        checkpoint_every: seconds between checkpoints.
        validate_every: steps between zero-shot validations on records of the validation split; 0 for none.
        validate_records: the largest number of records of a validation.
        tensorboard: keep the log for TensorBoard too.
    """

    out: str = "runs/pretraining"
    initial_weights: str = ""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 0
    device: str = "auto"
    compile: Flag = False
    checkpoint_every: NotNegative = 60.0
    validate_every: CountOrZero = 0
    validate_records: Count = 1000
    tensorboard: Flag = False


@dataclass(frozen=True)
class Settings:
    """All that `pretrain` can be told. `Settings.read(path)` reads TOML; what a file leaves out keeps its default."""

    data: DataSettings = field(default_factory=DataSettings)
    page: PageSettings = field(default_factory=PageSettings)
    encoders: EncoderSettings = field(default_factory=EncoderSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    run: RunSettings = field(default_factory=RunSettings)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Raises:
            SettingsError: no such file, no TOML, or a setting that is unknown, of the wrong type or out of range.
        """
        return read_toml(path, cls.from_dict)

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> Self:
        """Build from nested dictionaries, as `to_dict` gives them.

        Raises:
            SettingsError: a setting is unknown, of the wrong type or out of range.
        """
        return validate(cls, current_names(tables))

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return dataclasses.asdict(self)

    def to_toml(self) -> str:
        """The settings as TOML that `read` reads back to equal settings."""
        tables = [
            "\n".join([f"[{concern}]", *(f"{name} = {as_toml(value)}" for name, value in values.items())])
            for concern, values in self.to_dict().items()
        ]
        return "\n\n".join(tables) + "\n"

    def replace(self, **changes: Any) -> Self:
        """A copy with changes, `concern__name=value`: `settings.replace(loss__soft_lead=0.0, run__seed=1)`."""
        given: dict[str, Any] = {}
        for key, value in changes.items():
            concern, _, name = key.partition("__")
            given.setdefault(concern, {})[name] = value
        tables = self.to_dict()
        return type(self).from_dict(tables | {k: tables.get(k, {}) | x for k, x in current_names(given).items()})


def reproducible_settings(settings: Settings) -> dict[str, Any]:
    """The settings that change the result: all but where the run is kept, how often, and what is logged."""
    tables = settings.to_dict()
    for name in ("out", "checkpoint_every", "validate_every", "validate_records", "tensorboard"):
        del tables["run"][name]
    return tables


#: Names of the first edition, which are read for one version more.
OLD_TABLES = {"towers": "encoders", "optimiser": "optimizer"}
OLD_SETTINGS = {
    ("page", "sheets"): "paper_sizes",
    ("loss", "placement"): "position",
    ("loss", "soft_lead_warm_up"): "soft_lead_warmup_fraction",
    ("optimizer", "final_rate"): "min_lr_ratio",
    ("optimizer", "warm_up"): "warmup_fraction",
    ("optimizer", "clip_norm"): "max_grad_norm",
}


def current_names(tables: dict[str, Any]) -> dict[str, Any]:
    """Tables of settings under their current names; those of the first edition are read with a warning."""
    renamed: dict[str, Any] = {}
    for old_table, values in tables.items():
        table = rename(old_table, OLD_TABLES.get(old_table), tables)
        if isinstance(values, dict):
            values = {rename(name, OLD_SETTINGS.get((table, name)), values, table): x for name, x in values.items()}
        renamed[table] = values
    return renamed
