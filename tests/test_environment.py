"""pyproject.toml, environment.yml and constraints.txt say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {"torch": "pytorch"}  # conda-forge's names where they differ from PyPI's
RUNTIME = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = [Requirement(t) for texts in PROJECT["optional-dependencies"].values() for t in texts if "kdlab[" not in t]


def conda_requirements() -> dict[str, Requirement]:
    plain = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    return {r.name: r for r in (Requirement(re.sub(r"(?<![<>=!])=(?!=)", "==", entry)) for entry in plain)}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    named = (line.split("==") for line in lines if not line.startswith("#"))
    return {normalised(name): Version(version) for name, version in named}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_conda_has_the_same_packages():
    wanted = {CONDA_NAMES.get(r.name, r.name) for r in RUNTIME}
    assert set(conda_requirements()) - {"python", "pip"} == wanted


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda r: r.name)
def test_conda_has_the_same_bounds(requirement):
    conda = conda_requirements()[CONDA_NAMES.get(requirement.name, requirement.name)]
    assert conda.specifier == requirement.specifier


def test_conda_never_names_pypi_torch():
    assert "torch" not in conda_requirements()


def test_conda_python_is_the_oldest_supported():
    python = next(iter(conda_requirements()["python"].specifier)).version
    assert PROJECT["requires-python"] == f">={python}"


def test_conda_installs_the_package_itself():
    by_pip = next(entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict))
    assert by_pip == ["-e ."]


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS], ids=lambda r: r.name)
def test_tested_version_lies_in_its_range(requirement):
    pin = pins().get(normalised(requirement.name))
    assert pin is not None, f"{requirement.name} is missing from constraints.txt"
    assert requirement.specifier.contains(pin, prereleases=True)


def test_constraints_are_exact_sorted_and_neutral():
    header, *lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert header.startswith("#")
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", line)] == []
    assert lines == sorted(lines, key=str.lower)
    of_one_system = re.compile(r"nvidia|cuda|triton|pywin|\+cpu|\+cu")
    assert [line for line in lines if of_one_system.search(line)] == []


def test_one_version_of_the_package():
    import kdlab

    assert kdlab.__version__ == PROJECT["version"]


def test_ci_runs_make_test_and_nothing_else():
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "make" in line]
    assert commands == ["make test </dev/null"]
