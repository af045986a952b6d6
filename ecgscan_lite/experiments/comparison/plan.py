"""What the claims are tested on: the arms of the comparison, as data, and the settings that follow for each run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ecgscan_lite.ecg.tasks import task_names
from ecgscan_lite.settings import Ageing, CountOrZero, Settings, SettingsError, Several, read_toml, validate

#: Settings that the comparison itself decides.
DECIDED = (
    ("run", "out"), ("run", "seed"), ("run", "initial_weights"), ("encoders", "signal_weights"), ("data", "corpus"),
    ("data", "records"), ("data", "task"),
)  # fmt: skip


@dataclass(frozen=True)
class DataSet:
    """Records that every arm learns from and is judged on.

    Attributes:
        corpus: "synthetic", or a folder made by `ecgscan prepare`.
        splits: a CSV of `record_id` and `split` in place of the corpus's own; what it does not name is left out.
        task: classes of the linear probe, one of `tasks.TASKS`.
        train, val, test: how many records of a split at most; 0 takes all.
        probed: how many of the training records the linear probes learn from; 0 for all.
        starts_from: a data set above this one; every arm starts from its own weights there.
        transfer_from: a data set above this one, whose model is judged here by the statements that both have (C4).
        settings: of pretraining, in place of the common ones.
    """

    corpus: str = "synthetic"
    splits: str = ""
    task: str = "super"
    train: int = 0
    val: int = 0
    test: int = 0
    probed: int = 0
    starts_from: str = ""
    transfer_from: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One of the encoders that are compared.

    Attributes:
        role: "model", of which the claims are; "unconstrained", the same without the soft-lead constraint; "baseline",
            an image encoder that the model has to beat; "ablation", which is shown beside it; "ceiling", which reads
            signals; "stage", which others start from, and which is not judged.
        about: in a few words, for the tables.
        sees: what the probe learns from: features of "pages", of "signals", or of the signals that the model itself
            reads off the page ("reconstruction"); or "classifier", the outputs of a supervised arm without a probe.
        of: an arm above this one whose weights are looked at; nothing is trained then.
        starts_from: an arm above this one whose weights it starts from.
        untrained: how many encoders with weights of their own there are for each seed; nothing is trained then.
        carries_over: start from its own weights on the data set before. Where it does not, it starts on every data set
            from those that `starts_from` has there, or from random ones.
        optional: leave the arm out, with the reason, where its weights can't be fetched.
        uses_labels: says that it learns from labels; an arm that does without saying so is refused.
        settings: of pretraining, in place of the common ones and those of the data set.
    """

    role: Literal["model", "unconstrained", "baseline", "ablation", "ceiling", "stage"]
    about: str = ""
    sees: Literal["pages", "signals", "reconstruction", "classifier"] = "pages"
    of: str = ""
    starts_from: str = ""
    untrained: int = 0
    carries_over: bool = True
    optional: bool = False
    uses_labels: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        return not self.of and not self.untrained


@dataclass(frozen=True)
class Comparison:
    """All that `ecgscan evaluate --claims` is told.

    Attributes:
        seeds: of the weights, the order of the records and the pages; each arm is trained once for each.
        worn: ageing of the pages that clean ones are compared with (C4).
        resamples, permutations: of the patients.
        data: data sets by name.
        arms: by name.
        settings: of pretraining, common to all.
    """

    data: dict[str, DataSet]
    arms: dict[str, Arm]
    seeds: Annotated[tuple[CountOrZero, ...], Field(min_length=1), Several] = (0, 1, 2)
    worn: Ageing = "photo:3"
    resamples: Annotated[int, Field(strict=True, ge=100)] = 4000
    permutations: Annotated[int, Field(strict=True, ge=100)] = 10_000
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> Comparison:
        """Read a TOML file.

        Raises:
            SettingsError: no such file, no TOML, or something in it that can't be used.
        """
        return read_toml(path, cls.from_dict)

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> Comparison:
        """Build from nested dictionaries, as TOML gives them.

        Raises:
            SettingsError: something in it can't be used.
        """
        comparison = validate(cls, tables)
        comparison._check()
        return comparison

    def names(self, *roles: str) -> list[str]:
        """The arms of some roles, in their order."""
        return [name for name, arm in self.arms.items() if arm.role in roles]

    @property
    def model(self) -> str:
        """The arm that the claims are of."""
        return self.names("model")[0]

    def settings_of(self, data: str, arm: str, seed: int) -> Settings:
        """Settings of a run, but for the folders that it is kept in and starts from; of `of`, where nothing is trained.

        Raises:
            SettingsError: a setting can't be used.
        """
        given = self.arms[self.arms[arm].of or arm]
        tables = _merge(_merge(self.settings, self.data[data].settings), given.settings)
        try:
            return Settings.from_dict(tables).replace(
                run__seed=seed, data__corpus=self.data[data].corpus, data__task=self.data[data].task
            )
        except SettingsError as error:
            raise SettingsError(f"arm {arm!r} on {data!r}: {error}") from None

    def origins(self, data: str, arm: str) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
        """The run, a data set and an arm, that the weights come from; and that of the signal encoder, if it is another.

        On a data set that follows another, an arm that carries over starts from its own weights there, with the signal
        encoder that the arm it starts from has learned here.
        """
        given, before = self.arms[arm], self.data[data].starts_from
        teacher = (data, given.starts_from) if given.starts_from else None
        if before and given.carries_over:
            return (before, arm), teacher
        return teacher, None

    def _check(self) -> None:
        if (
            len(set(self.seeds)) < len(self.seeds)
            or not self.data
            or len(self.names("model")) != 1
            or len(self.names("unconstrained")) > 1
        ):
            raise SettingsError("there have to be seeds, [data.NAME], one arm of role 'model', one 'unconstrained'")
        if not isinstance(self.worn, str) or self.resamples < 100 or self.permutations < 100:
            raise SettingsError("worn is the name of an ageing; resamples and permutations are 100 or more")
        self._check_names()
        self._check_labels()
        for name, data in self.data.items():
            try:
                task_names(data.task)
            except ValueError as error:
                raise SettingsError(f"data set {name!r}: {error}") from None
            if data.splits and data.corpus == "synthetic":
                raise SettingsError(f"data set {name!r}: synthetic records have splits of their own; leave out splits")
            if min(data.train, data.val, data.test, data.probed) < 0:
                raise SettingsError(f"data set {name!r}: numbers of records are 0 or more")
            sizes = {self.settings_of(name, arm, 0).page for arm in self.arms}
            if len({(page.height, page.width) for page in sizes}) != 1:
                raise SettingsError("all arms have to see pages of one height and width")

    def _check_names(self) -> None:
        """What is named has to stand above, so that nothing goes in circles."""
        for kind, tables, keys in (
            ("data set", self.data, ("starts_from", "transfer_from")), ("arm", self.arms, ("of", "starts_from")),
        ):  # fmt: skip
            above: list[str] = []
            for name, table in tables.items():
                if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                    raise SettingsError(f"the {kind} {name!r} needs a name of letters, digits, - and _")
                for key in keys:
                    if (other := getattr(table, key)) and other not in above:
                        raise SettingsError(f"{kind} {name!r}: {key} = {other!r} is no {kind} above it")
                above.append(name)
        for name, arm in self.arms.items():
            if arm.untrained < 0 or (arm.of and (arm.untrained or arm.starts_from or arm.settings)):
                raise SettingsError(f"arm {name!r}: `of` goes with no other weights and settings")
            if arm.of and not self.arms[arm.of].is_trained:
                raise SettingsError(f"arm {name!r}: of = {arm.of!r} is not trained itself")
            if arm.starts_from and not self.arms[arm.starts_from].is_trained:
                raise SettingsError(f"arm {name!r}: starts_from = {arm.starts_from!r} is not trained itself")
            if arm.role in ("model", "unconstrained") and (not arm.is_trained or arm.sees != "pages"):
                raise SettingsError(f"arm {name!r}: role {arm.role!r} is trained, and sees pages")
        for where, settings in (
            ("settings", self.settings),
            *((f"{kind}.{name}.settings", table.settings)
              for kind, tables in (("data", self.data), ("arms", self.arms)) for name, table in tables.items()),
        ):  # fmt: skip
            for table, key in DECIDED:
                if key in settings.get(table, {}):
                    raise SettingsError(f"[{where}.{table}] {key} is decided by the comparison; leave it out")

    def _check_labels(self) -> None:
        """Text made from labels, and labels, are supervision: no arm learns from them without saying so."""
        learns: dict[str, bool] = {}
        for name, arm in self.arms.items():
            told = [self.settings_of(data, name, 0).data for data in self.data]
            learns[name] = any(data.text == "labels" or "labels" in data.modalities for data in told)
            learns[name] |= any(learns[other] for other in (arm.of, arm.starts_from) if other)
            learns[name] &= not arm.untrained
            if learns[name] and (not arm.uses_labels or arm.role in ("model", "unconstrained")):
                raise SettingsError(
                    f"arm {name!r} learns from labels, which is no self-supervision: an arm of another role than "
                    "'model' and 'unconstrained' may, and says uses_labels = true"
                )
            if arm.sees == "classifier" and not all("labels" in data.modalities for data in told):
                raise SettingsError(f"arm {name!r}: sees = 'classifier' needs an arm that is trained on image,labels")


def _merge(tables: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of settings with some of them changed."""
    for name in (*tables, *changes):
        if not all(isinstance(given.get(name, {}), dict) for given in (tables, changes)):
            raise SettingsError(f"settings.{name} has to be a table")
    return {name: tables.get(name, {}) | changes.get(name, {}) for name in (*tables, *changes)}
