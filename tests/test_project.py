"""The files around the library say the same thing: README, environments, exact pins, continuous integration."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ENVIRONMENTS = ("environment.yml", "binder/environment.yml")
#: Conda's names, where they are not those of the Python package.
CONDA_NAMES = {"pytorch": "torch", "pytorch-cpu": "torch"}
#: What the environments hold beyond the project's own needs.
EXTRAS = {"python", "pip", "jupyterlab"}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def environment(name: str) -> dict[str, Requirement]:
    """The packages of a conda environment under their Python names, those from pip included."""
    entries = yaml.safe_load((ROOT / name).read_text("utf-8"))["dependencies"]
    flat = [line for entry in entries for line in (entry["pip"] if isinstance(entry, dict) else [entry])]
    found = requirements([re.sub(r"^([\w-]+)=(?!=)", r"\1==", line) for line in flat if line != "-e ."])
    return {CONDA_NAMES.get(package, package): requirement for package, requirement in found.items()}


def readme_command(name: str) -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(rf"<!-- command: {name} -->\n```bash\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 1, f"README.md needs one block after <!-- command: {name} -->"
    return blocks[0]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_hold_the_dependencies_with_the_same_bounds(name: str) -> None:
    needed, found = requirements(PROJECT["dependencies"]), environment(name)
    assert {package: found[package].specifier for package in needed if package in found} == {
        package: requirement.specifier for package, requirement in needed.items()
    }


def test_environments_agree_with_each_other_and_with_the_book_extra() -> None:
    whole, small = (environment(name) for name in ENVIRONMENTS)
    allowed = requirements(PROJECT["dependencies"]) | requirements(PROJECT["optional-dependencies"]["book"])
    assert set(whole) - EXTRAS == set(allowed)
    assert {package: requirement.specifier for package, requirement in whole.items() if package in small} == {
        package: requirement.specifier for package, requirement in small.items()
    }


def test_lock_pins_every_direct_dependency_within_its_bounds_and_names_no_address() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    assert not [line for line in lines if "://" in line or line.startswith("-") or " @ " in line]
    pins: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines):
        exact = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
        assert exact, f"{requirement} is not an exact pin"
        pins.setdefault(canonicalize_name(requirement.name), []).append(exact[1])
    direct = PROJECT["dependencies"] + [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for package, requirement in requirements(direct).items():
        if package != canonicalize_name(PROJECT["name"]):
            assert pins.get(package), f"{package} is not pinned"
            assert all(version in requirement.specifier for version in pins[package]), f"{package}: outside its bounds"


def test_continuous_integration_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    extract = script.read_text("utf-8").split("readme_command() {")[1].split("\n}\n")[0]
    for name in ("quickstart", "test"):
        shell = f"readme_command() {{{extract}\n}}\nreadme_command {name}"
        printed = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed == readme_command(name)
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["ci"]["steps"]]


def test_readme_commands_use_files_and_extras_that_exist() -> None:
    test = readme_command("test")
    assert "--nbval " in test and "book/*.ipynb" in test and ".[test]" in test
    assert (ROOT / re.search(r"--nbval-sanitize-with (\S+)", test)[1]).is_file()
    assert "pip install -q . " in readme_command("quickstart")


def test_readme_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", (ROOT / "README.md").read_text("utf-8"))
    local = [a or b for a, b in links if "://" not in (a or b)]
    assert local and not [link for link in local if not (ROOT / link).exists()]


def test_no_tracked_text_names_a_package_registry() -> None:
    try:
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a clone: git does not list the files")
    registry = re.compile(r"pypi\.org|python[h]osted")
    texts = {name: (ROOT / name).read_bytes() for name in tracked.splitlines() if (ROOT / name).is_file()}
    assert not [name for name, text in texts.items() if registry.search(text.decode("utf-8", "ignore"))]


def test_readme_lists_the_commands_that_there_are() -> None:
    from typer.main import get_command

    from ecgscan_lite.cli import app

    rows = re.findall(r"^\| `ecgscan ([\w-]+)", (ROOT / "README.md").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(get_command(app).commands)


def test_readme_example_of_the_library_runs_and_gives_the_shapes_it_names() -> None:
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    names: dict = {}
    exec(example, names)
    model, image = names["model"], names["page"].image
    assert tuple(image.shape[:2]) == (1, 3)
    assert model.embed_images(image).shape == (1, model.encoder_settings.embedding_dim)
    assert list(model.zero_shot(image, ["NORM", "AFIB", "LVH"]).columns) == ["NORM", "AFIB", "LVH"]
    assert model.reconstruct(image).shape == (1, 12, 1000)


def test_the_model_card_says_what_the_records_say() -> None:
    script = ROOT / "settings" / "ship_weights.py"
    subprocess.run([sys.executable, script, "--check"], check=True, cwd=ROOT)
