"""What a run can be told: one dataclass per concern, read from TOML, checked, and printed with every run."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, get_type_hints

from ecgscan_lite.settings_limits import check_limits
from ecgscan_lite.settings_tables import SettingsError, as_toml, build, refuse_unknown

TextPooling = Literal["own", "cls", "mean"]


@dataclass(frozen=True)
class DataSettings:
    """Which records are learned from.

    Attributes:
        corpus: "synthetic", a folder made by `ecgscan prepare`, or several of these, learned from together.
        records: how many records of the training split of each at most; 0 takes all.
        modalities: "image,signal,text", or "signal,text" to train the teachers of a later run: no pages are drawn then.
            What to compare with: "image,text", without any signal; "image,image", two pages of a record (SimCLR);
            "image,labels", the classes of `task` (supervised, the weights that are best on validation are kept).
        text: where the text of a record comes from. "reports": its own report, and a record without one takes no part
            in the text terms; "labels": text made from its statements, which is supervision and no self-supervision;
            "none": no text terms.
        text_unit: "finding": each step draws findings, one sentence or clause each, from the report of a record, which
            is what prompts look like; "report": the text as a whole.
        findings_per_step: how many findings of a record each step draws.
        task: of "image,labels", one of `tasks.TASKS`.
    """

    corpus: tuple[str, ...] = ("synthetic",)
    records: int = 0
    modalities: Literal["image,signal,text", "signal,text", "image,text", "image,image", "image,labels"] = (
        "image,signal,text"
    )
    text: Literal["reports", "labels", "none"] = "reports"
    text_unit: Literal["finding", "report"] = "finding"
    findings_per_step: int = 4
    task: str = "all"


@dataclass(frozen=True)
class PageSettings:
    """The pages that the image tower sees, drawn afresh at every step.

    Attributes:
        layouts: names of page layouts; each page has one of them, those that are named twice twice as often.
        height, width: px.
        ageing: names of ageing presets, with a severity ("photo:2") or without, or "none"; each page has one of them.
        sheets: shapes of the paper; each page has one of them. "full" has that of the image; the others, "letter", "a4"
            and "strip", are fitted into it whole, on white, as images of such sheets are.
    """

    layouts: tuple[str, ...] = ("3x4+1",)
    height: int = 128
    width: int = 192
    ageing: tuple[str, ...] = ("none",)
    sheets: tuple[str, ...] = ("full",)


@dataclass(frozen=True)
class TowerSettings:
    """The encoders.

    Attributes:
        image: name of any timm model that gives intermediate features, such as "vit_large_patch14_clip_336.openai"; a
            name that begins with "hf-hub:" is fetched from the hub.
        image_options: further arguments of `timm.create_model`.
        image_pretrained: start from timm's published weights.
        signal: "resnet" or "vit".
        signal_weights: a run's folder or a hub id whose signal tower to start from, whatever its other towers; "" for
            none.
        signal_frozen: keep the signal tower as `signal_weights` or `run.initial_weights` has it; its head is trained
            all the same.
        text: "minilm" (the weights installed with this package), a folder, or a hub id of sentence-transformers.
        text_pooling: how a text's tokens become one embedding: "own", as the files of that model say, "cls", the first
            token, or "mean". A hub id of a plain transformers model says nothing, and its card has to be asked.
        embedding_dim: D, of the joint space.
        decoder_dim: width of the decoder that reconstructs the leads.
    """

    image: str = "resnet10t"
    image_options: dict[str, Any] = field(default_factory=lambda: {"channels": [24, 64, 160, 320], "stem_width": 8})
    image_pretrained: bool = False
    signal: Literal["resnet", "vit"] = "resnet"
    signal_weights: str = ""
    signal_frozen: bool = False
    text: str = "minilm"
    text_pooling: TextPooling = "own"
    embedding_dim: int = 128
    decoder_dim: int = 128


@dataclass(frozen=True)
class LossSettings:
    """Weights of the terms, and what shapes them.

    Attributes:
        gram: weight of the Gram volume loss over image, signal and text.
        pairwise: weight of the mean of the pairwise losses image-signal, image-text and signal-text.
        pairwise_kind: "infonce" or "sigmoid".
        reconstruction: weight of the reconstruction of what the page shows.
        visibility: weight of the judgement whether the page shows a lead.
        placement: weight of the judgement where on the page each lead is.
        soft_lead: weight of the soft-lead constraint, per mV of mean absolute residual.
        soft_lead_warm_up: share of the steps over which that weight rises from 0, in proportion. Leads that can't be
            read yet obey the constraint best when they are flat, and with all its weight at once they can stay so.
        reconstruction_share: share of a step's records whose leads are reconstructed; a page has thousands of samples
            to learn from, so that a part of the records serves, and costs less.
        temperature: at the start; it is learned.
        label_smoothing: of the Gram volume and InfoNCE losses.
    """

    gram: float = 1.0
    pairwise: float = 1.0
    pairwise_kind: Literal["infonce", "sigmoid"] = "infonce"
    reconstruction: float = 3.0
    visibility: float = 0.03
    placement: float = 0.1
    soft_lead: float = 0.3
    soft_lead_warm_up: float = 0.5
    reconstruction_share: float = 1.0
    temperature: float = 0.07
    label_smoothing: float = 0.1


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        epochs: passes over the training records.
        batch_size: records a step, over all processes; contrastive losses see all of them.
        micro_batch: how many records a process encodes at once, so that a large batch fits in memory: each piece is
            encoded twice, the second time for its gradient (Gao et al., RepL4NLP 2021); 0 encodes all at once.
        learning_rate: at its peak.
        final_rate: learning rate at the end, as a share of the peak; 1 for a run that another one continues.
        weight_decay: of matrices and kernels; gains, biases and temperatures have none.
        warm_up: share of the steps.
        clip_norm: norm that the gradient is clipped to.
        precision: "bf16" autocast, "fp32", or "auto": bf16 where the device computes in it.
    """

    epochs: int = 6
    batch_size: int = 64
    micro_batch: int = 0
    learning_rate: float = 2e-3
    final_rate: float = 0.0
    weight_decay: float = 0.05
    warm_up: float = 0.1
    clip_norm: float = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is kept.

    Attributes:
        out: folder of the run.
        initial_weights: a run's folder to start from, or "" for random weights.
        seed: of the weights, the order of the records, and the pages.
        device: "auto", "cpu", "cuda", ...
        compile: compile the image and signal towers with `torch.compile`; it needs a C++ compiler or Triton.
        checkpoint_every: seconds between checkpoints.
        validate_every: steps between zero-shot validations on records of the validation split; 0 for none.
        validate_records: how many of them at most.
        tensorboard: keep the log for TensorBoard too.
    """

    out: str = "runs/pretraining"
    initial_weights: str = ""
    seed: int = 0
    device: str = "auto"
    compile: bool = False
    checkpoint_every: float = 60.0
    validate_every: int = 0
    validate_records: int = 1000
    tensorboard: bool = False


@dataclass(frozen=True)
class Settings:
    """All that `pretrain` can be told. `Settings.read(path)` reads TOML; what a file leaves out keeps its default."""

    data: DataSettings = field(default_factory=DataSettings)
    page: PageSettings = field(default_factory=PageSettings)
    towers: TowerSettings = field(default_factory=TowerSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    run: RunSettings = field(default_factory=RunSettings)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Raises:
            SettingsError: no such file, no TOML, or a setting that is unknown, of the wrong type or out of range.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: can't be read as settings ({_reason(error)})") from None
        try:
            return cls.from_dict(tomllib.loads(text))
        except (tomllib.TOMLDecodeError, SettingsError) as error:
            raise SettingsError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> Self:
        """Build from nested dictionaries, as `to_dict` gives them.

        Raises:
            SettingsError: a setting is unknown, of the wrong type or out of range.
        """
        concerns = get_type_hints(cls)
        refuse_unknown("table", tables, concerns)
        settings = cls(**{name: build(name, concerns[name], table) for name, table in tables.items()})
        check_limits(settings)
        return settings

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
        tables = self.to_dict()
        for key, value in changes.items():
            concern, _, name = key.partition("__")
            tables.setdefault(concern, {})[name] = value
        return type(self).from_dict(tables)


def build_towers(table: dict[str, Any]) -> TowerSettings:
    """The towers of a model from the description that is kept beside its weights."""
    return build("towers", TowerSettings, table)


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
