"""The version: that of the tag, told alike everywhere, at no cost when the package is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.version import Version

import compresskit

ROOT = Path(compresskit.__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_it_is_one_that_pip_can_order() -> None:
    assert Version(compresskit.__version__)


def test_installed_metadata_tells_the_same() -> None:
    """Where the tree of these tests is what is installed."""
    try:
        told = metadata.distribution("compresskit")
    except metadata.PackageNotFoundError:
        pytest.skip("compresskit is not installed")
    place = json.loads(told.read_text("direct_url.json") or "{}").get("url")
    if place != ROOT.as_uri() or not (ROOT / "compresskit" / "_version.py").exists():
        pytest.skip("another tree is installed")
    assert told.version == compresskit.__version__


def test_importing_it_starts_nothing() -> None:
    loaded = "{'subprocess', 'importlib.metadata'} & {*sys.modules}"
    script = f"import compresskit; print(compresskit.__version__, *{loaded})"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [compresskit.__version__]


def test_it_comes_from_the_tag_and_is_written_where_git_does_not_look() -> None:
    hatch = PROJECT["tool"]["hatch"]
    assert (hatch["version"]["source"], "version" in PROJECT["project"]) == ("vcs", False)
    written = hatch["build"]["hooks"]["vcs"]["version-file"]
    assert written in (ROOT / ".gitignore").read_text().splitlines()
    assert Version(hatch["version"]["fallback-version"]) < Version("0.1")
    assert "$Format:%(describe:" in (ROOT / ".git_archival.txt").read_text() or not (ROOT / ".git").exists()
    assert ".git_archival.txt export-subst" in (ROOT / ".gitattributes").read_text()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source distribution does not know what it lacks")
def test_a_source_distribution_lacks_nothing() -> None:
    """So that tests and documentation are made from it as from the repository; pyproject.toml comes by itself."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tops = {line.partition("/")[0] for line in listed.splitlines()}
    included = {each.strip("/") for each in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    assert tops - included == {"pyproject.toml"}
