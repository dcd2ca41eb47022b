"""pyproject.toml, constraints.txt, environment.yml and what is installed agree."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins() -> dict[str, str]:
    lines = [text.split("#")[0] for text in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [Requirement(text) for text in lines if text.strip()]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in found}


@pytest.mark.parametrize(
    "text", PROJECT["dependencies"] + [r for rs in EXTRAS.values() for r in rs]
)
def test_every_requirement_is_pinned_within_its_range(text):
    requirement = Requirement(text)
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_torch_carries_no_build_suffix():
    assert pins()["torch"] == "2.13.0"
    assert "torch==2.13.0" in PROJECT["dependencies"]


def test_environment_yml_takes_everything_from_the_pinned_set():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    python = next(d.partition("=")[2] for d in conda if d.startswith("python="))
    assert {d.partition("=")[0] for d in conda} == {"python", "pip"}
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert pip == ["-c constraints.txt", "-e .[book,test,lab]"]
    assert environment["name"] == PROJECT["name"]


def test_what_is_installed_is_what_is_pinned():
    wrong = {}
    for name, pin in pins().items():
        try:
            have = Version(version(name)).public
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        if have != pin:
            wrong[name] = f"installed {have}, pinned {pin}"
    assert not wrong


def test_makefile_installs_the_same_extras():
    assert "-c constraints.txt -e '.[book,test,lab]'" in (ROOT / "Makefile").read_text()
