"""The plan of a comparison as data, read from TOML: methods, data sets, and the settings that follow for each run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ecgscan_lite.settings import Ageing, CountOrZero, Settings, SettingsError, Task, current_names, read_toml, validate
from ecgscan_lite.toml_tables import rename

#: Settings that the comparison itself decides.
DECIDED = {
    "run": ("out", "seed", "initial_weights"), "encoders": ("signal_weights",), "data": ("corpus", "records", "task"),
}  # fmt: skip
#: Names of the first edition, which are read for one version more: of a plan and its data sets, and of its methods.
OLD_NAMES = {"arms": "methods", "worn": "degraded", "probed": "probe_train_size"}
OLD_METHOD_NAMES = {
    "about": "label", "sees": "probe_input", "of": "weights_from", "starts_from": "initial_weights_from",
    "carries_over": "warm_start", "ceiling": "upper_bound",
}  # fmt: skip

Name = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$")]  # runs are kept in folders of these names
Seed = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]
Repetitions = Annotated[int, Field(strict=True, ge=100, lt=1_000_000)]
SettingsTables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class DataSet:
    """Records that every method learns from and is evaluated on.

    Attributes:
        corpus: "synthetic", or a folder made by `ecgscan prepare`.
        splits: a CSV of `record_id` and `split` in place of the corpus's own; records that are not in it are left out.
        task: classes of the linear probe, one of `tasks.TASKS`.
        train, val, test: the largest number of records taken from each split; 0 takes all.
        probe_train_size: number of training records that the linear probes learn from; 0 takes all.
        starts_from: a data set above this one; every method starts from its own weights there.
        transfer_from: a data set above this one, whose model is evaluated here on the statements that both have (C4).
        settings: settings of pretraining, in place of the common ones.
    """

    corpus: str = "synthetic"
    splits: str = ""
    task: Task = "super"
    train: CountOrZero = 0
    val: CountOrZero = 0
    test: CountOrZero = 0
    probe_train_size: CountOrZero = 0
    starts_from: str = ""
    transfer_from: str = ""
    settings: SettingsTables = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One of the ways to get an encoder that are compared.

    Attributes:
        role: "model", which the claims are about; "unconstrained", the same without the soft-lead constraint;
            "baseline", an image encoder that the model has to beat; "ablation", shown beside the model; "upper_bound",
            an encoder of signals; "stage", which other methods start from, and which is not evaluated.
        label: a few words for the tables.
        probe_input: input of the probe: features of "pages", of "signals", or of the signals that the model
            itself reads off the pages ("reconstruction"); or "classifier", the outputs of a supervised method, without
            a probe.
        weights_from: a method above this one whose weights are evaluated; nothing is trained then.
        initial_weights_from: a method above this one whose weights it starts from.
        untrained: number of encoders with weights of their own for each seed; nothing is trained then.
        warm_start: whether it starts from its own weights on the data set before. Without it, the method starts on
            every data set from the weights that `initial_weights_from` has there, or from random ones.
        optional: whether it is skipped, with the reason, where its weights can't be fetched.
        uses_labels: whether it learns from labels; a method that does without saying so is refused.
        settings: settings of pretraining, in place of the common ones and those of the data set.
    """

    role: Literal["model", "unconstrained", "baseline", "ablation", "upper_bound", "stage"]
    label: str = ""
    probe_input: Literal["pages", "signals", "reconstruction", "classifier"] = "pages"
    weights_from: str = ""
    initial_weights_from: str = ""
    untrained: CountOrZero = 0
    warm_start: bool = True
    optional: bool = False
    uses_labels: bool = False
    settings: SettingsTables = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        return not self.weights_from and not self.untrained


@dataclass(frozen=True)
class ComparisonPlan:
    """All that `ecgscan compare` is told.

    Attributes:
        data, methods: data sets and methods by name.
        seeds: seeds of the weights, the order of the records and the pages; each method is trained once for each.
        degraded: ageing of the pages that clean ones are compared with (C4).
        resamples, permutations: number of resamples, and of permutations, of the patients.
        settings: settings of pretraining, common to all.
    """

    data: Annotated[dict[Name, DataSet], Field(min_length=1)]
    methods: dict[Name, Method]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    degraded: Ageing = "photo:3"
    resamples: Repetitions = 4000
    permutations: Repetitions = 10_000
    settings: SettingsTables = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> ComparisonPlan:
        """Read a TOML file.

        Raises:
            SettingsError: no such file, no TOML, or something in it that can't be used.
        """
        return read_toml(path, cls.from_dict)

    @classmethod
    def from_dict(cls, tables: dict[str, Any]) -> ComparisonPlan:
        """Build from nested dictionaries, as TOML gives them.

        Raises:
            SettingsError: something in it can't be used.
        """
        tables = _current(tables, OLD_NAMES)
        for kind, old_names in (("data", OLD_NAMES), ("methods", OLD_METHOD_NAMES)):
            if isinstance(tables.get(kind), dict):
                tables[kind] = {name: _current(table, old_names, kind) for name, table in tables[kind].items()}
        plan = validate(cls, tables)
        for fault in _faults(plan):
            raise SettingsError(fault)
        return plan

    def names(self, *roles: str) -> list[str]:
        """The methods that have one of some roles, in their order."""
        return [name for name, method in self.methods.items() if method.role in roles]

    @property
    def model(self) -> str:
        """The method that the claims are about."""
        return self.names("model")[0]

    def settings_of(self, data: str, method: str, seed: int) -> Settings:
        """Settings of a run, without its folders; a method with `weights_from` has the settings of that method.

        Raises:
            SettingsError: a setting can't be used.
        """
        given = self.methods[self.methods[method].weights_from or method]
        tables: SettingsTables = {}
        for changes in (self.settings, self.data[data].settings, given.settings):
            tables |= {name: tables.get(name, {}) | values for name, values in changes.items()}
        try:
            return Settings.from_dict(tables).replace(
                run__seed=seed, data__corpus=self.data[data].corpus, data__task=self.data[data].task
            )
        except SettingsError as error:
            raise SettingsError(f"method {method!r} on {data!r}: {error}") from None

    def origins(self, data: str, method: str) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
        """The run, a data set and a method, that the weights come from; and that of the signal encoder, if it differs.

        On a data set that follows another, a method with a warm start begins with its own weights there, and with the
        signal encoder that the method of its initial weights has learned here.
        """
        given, before = self.methods[method], self.data[data].starts_from
        initial = (data, given.initial_weights_from) if given.initial_weights_from else None
        return ((before, method), initial) if before and given.warm_start else (initial, None)


def _current(table: Any, old_names: dict[str, str], kind: str = "") -> Any:
    """A table under its current names; those of the first edition are read with a warning."""
    if not isinstance(table, dict):
        return table  # `validate` refuses it
    table = {rename(name, old_names.get(name), table, kind): value for name, value in table.items()}
    if table.get("role") == "ceiling":
        table["role"] = rename("ceiling", old_names["ceiling"], (), "role")
    return table | ({"settings": current_names(table["settings"])} if isinstance(table.get("settings"), dict) else {})


def _faults(plan: ComparisonPlan) -> Iterator[str]:
    """What can't be in a plan whose values have the right types, the first fault first."""
    if len(set(plan.seeds)) < len(plan.seeds) or plan.degraded == "none":
        yield "seeds have to differ, and degraded can't be 'none'"
    if len(plan.names("model")) != 1 or len(plan.names("unconstrained")) > 1:
        yield "there has to be one method of role 'model', and at most one 'unconstrained'"
    yield from _reference_faults("data set", plan.data, ("starts_from", "transfer_from"))
    yield from _reference_faults("method", plan.methods, ("weights_from", "initial_weights_from"))
    for where, given in (("the plan", plan), *plan.data.items(), *plan.methods.items()):
        for table, name in ((table, name) for table, names in DECIDED.items() for name in names):
            if name in given.settings.get(table, {}):
                yield f"settings.{table}.{name} of {where} is decided by the comparison; leave it out"
    yield from _method_faults(plan)
    for name, data in plan.data.items():
        if data.splits and data.corpus == "synthetic":
            yield f"data set {name!r}: synthetic records have splits of their own; leave out splits"
        pages = [plan.settings_of(name, method, 0).page for method in plan.methods]
        if len({(page.height, page.width) for page in pages}) != 1:
            yield f"data set {name!r}: all methods have to see pages of one height and width"


def _reference_faults(kind: str, tables: dict[str, Any], keys: tuple[str, str]) -> Iterator[str]:
    """What is named has to stand above, so that nothing goes in circles."""
    above: list[str] = []
    for name, table in tables.items():
        for key in keys:
            if (other := getattr(table, key)) and other not in above:
                yield f"{kind} {name!r}: {key} = {other!r} is no {kind} above it"
        above.append(name)


def _method_faults(plan: ComparisonPlan) -> Iterator[str]:
    """Weights come from methods that are trained; and learning from labels, or text made from them, has to be said."""
    learns: dict[str, bool] = {}
    for name, method in plan.methods.items():
        others = [other for other in (method.weights_from, method.initial_weights_from) if other]
        if method.weights_from and (method.untrained or method.initial_weights_from or method.settings):
            yield f"method {name!r}: weights_from goes with no other weights and settings"
        if not all(plan.methods[other].is_trained for other in others):
            yield f"method {name!r}: weights_from or initial_weights_from is not trained itself"
        if method.role in ("model", "unconstrained") and (not method.is_trained or method.probe_input != "pages"):
            yield f"method {name!r}: role {method.role!r} is trained, and sees pages"
        data = [plan.settings_of(data, name, 0).data for data in plan.data]
        own = any(one.text == "labels" or "labels" in one.modalities for one in data)
        learns[name] = (own or any(learns[other] for other in others)) and not method.untrained
        if learns[name] and (not method.uses_labels or method.role in ("model", "unconstrained")):
            yield (
                f"method {name!r} learns from labels, which is no self-supervision: a method of another role than "
                "'model' and 'unconstrained' may, and says uses_labels = true"
            )
        if method.probe_input == "classifier" and not all("labels" in one.modalities for one in data):
            yield f"method {name!r}: probe_input = 'classifier' needs a method that is trained on image,labels"
