"""Settings: what is read back equals what was written, and what can't be used is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgscan_lite.settings import Settings, SettingsError


def test_settings_survive_toml(tmp_path: Path) -> None:
    settings = Settings().replace(
        encoders__image="test_vit", encoders__image_options={"depth": 2, "name with space": [1, 2]},
        page__layouts=["3x4", "12x1"], loss__soft_lead=0.1, run__out='a "quoted" folder',
        encoders__image_pretrained=True,
    )  # fmt: skip
    file = tmp_path / "settings.toml"
    file.write_text(settings.to_toml(), encoding="utf-8")
    assert Settings.read(file) == settings != Settings()


def test_what_a_file_leaves_out_keeps_its_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[optimizer]\nlearning_rate = 1\n")
    settings = Settings.read(file)
    assert settings.optimizer.learning_rate == 1.0 and isinstance(settings.optimizer.learning_rate, float)
    assert settings.replace(optimizer__learning_rate=Settings().optimizer.learning_rate) == Settings()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[optimize]\nepochs = 1", ["optimize", "optimizer"]),
        ("[optimizer]\nepoch = 1", ["epoch", "epochs"]),
        ("[optimizer]\nepochs = 0", ["optimizer.epochs"]),
        ("[optimizer]\nepochs = 1.5", ["optimizer.epochs", "int"]),
        ("[optimizer]\nepochs = true", ["optimizer.epochs"]),
        ("[optimizer]\nlearning_rate = nan", ["optimizer.learning_rate"]),
        ("[loss]\nsoft_lead = -1", ["loss.soft_lead"]),
        ("[loss]\npairwise_kind = 'cosine'", ["infonce", "sigmoid"]),
        ("[page]\nlayouts = []", ["page.layouts"]),
        ("[page]\nheight = 10", ["page.height", "64"]),
        ("[page]\nlayouts = ['4x3']", ["page.layouts", "4x3", "3x4+1"]),
        ("[page]\nageing = ['none', 'scan:9']", ["page.ageing", "scan:9", "from 1"]),
        ("[page]\nsheets = ['a5']", ["page.paper_sizes", "a5", "full", "letter"]),
        ("[data]\ntask = 'rythm'", ["data.task", "rythm", "rhythm"]),
        ("[data]\ntext = 'label'", ["reports", "labels", "none"]),
        ("page = 3", ["page"]),
        ("= broken", ["settings.toml"]),
    ],
)
def test_useless_settings_are_refused_by_name(tmp_path: Path, text: str, names: list[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        Settings.read(file)
    message = str(refusal.value)
    assert "\n" not in message and all(name in message for name in names)


def test_no_file_and_no_text(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("absent.toml", "binary.toml", "."):
        with pytest.raises(SettingsError, match="can't be read"):
            Settings.read(tmp_path / name)


def test_old_names_change_what_they_name_and_nothing_else() -> None:
    settings = Settings().replace(encoders__image="test_vit", encoders__embedding_dim=256, optimizer__epochs=50)
    with pytest.warns(FutureWarning, match="now called"):
        old = settings.replace(towers__signal="vit", optimiser__warm_up=0.2)
    assert old == settings.replace(encoders__signal="vit", optimizer__warmup_fraction=0.2)


@pytest.mark.parametrize(
    "tables", [{"optimizer": {}, "optimiser": {}}, {"page": {"sheets": "a4", "paper_sizes": "full"}}]
)
def test_a_thing_under_its_old_and_its_new_name_is_refused(tables: dict) -> None:
    with pytest.raises(SettingsError, match="give one of them"):
        Settings.from_dict(tables)


def test_infinite_limits_switch_off_and_nan_is_refused() -> None:
    endless = Settings().replace(optimizer__max_grad_norm=float("inf"), run__checkpoint_every=float("inf"))
    assert Settings.from_dict(endless.to_dict()) == endless
    with pytest.raises(SettingsError, match="max_grad_norm"):
        Settings().replace(optimizer__max_grad_norm=float("nan"))
