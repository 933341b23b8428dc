"""The shape of the repository: who imports whom, what the parent process loads, what is packaged and listed."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("workers", "model", "streams", "storage")
MAY_IMPORT = {
    "model": {"model"},
    "streams": {"streams"},
    "storage": {"storage", "streams.messages"},
    "workers": set(PACKAGES),
}
MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "__pycache__" not in path.parts
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What the worker's parent process imports; the model belongs to its child.
PARENT = (
    "workers.app",
    "workers.pipeline",
    "workers.pool",
    "workers.publisher",
    "workers.service",
    "workers.cli",
)
NORMALISED = re.compile(r"[-_.]+")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> Iterator[str]:
    """Every module that the file imports, anywhere in it, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "%s: relative import" % relative(path)
            yield from ("%s.%s" % (node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_follow_the_rule(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = [name for name in imported(path) if name.split(".")[0] in PACKAGES]
    allowed = MAY_IMPORT[package]
    wrong = [
        name for name in ours if not any(name == good or name.startswith(good + ".") for good in allowed)
    ]
    assert not wrong, "%s must not import %s" % (relative(path), ", ".join(wrong))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


def test_parent_process_stays_free_of_torch() -> None:
    code = "import sys, %s; print([m for m in ('torch', 'transformers') if m in sys.modules])" % ", ".join(
        PARENT
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_engine_process_stays_free_of_faust() -> None:
    code = "import sys, workers.gpu_worker; print('faust' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_package_is_listed_for_installation() -> None:
    on_disk = {relative(path.parent).replace("/", ".") for path in MODULES}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == on_disk


def test_readme_lists_every_module() -> None:
    text = (ROOT / "README.md").read_text()
    listed = set(re.findall(r"`((?:%s)/[\w/]+\.py)`" % "|".join(PACKAGES), text))
    wanted = {relative(p) for p in MODULES if p.name != "__init__.py" and "versions" not in p.parts}
    assert not wanted - listed, "not in the README: %s" % sorted(wanted - listed)
    assert not listed - {relative(p) for p in MODULES}, "in the README, but gone"


def name_of(requirement: str) -> str:
    return NORMALISED.sub("-", re.split(r"[\s\[<>=~!;#]", requirement.strip(), maxsplit=1)[0]).lower()


def requirements(path: Path) -> set[str]:
    lines = path.read_text().splitlines()
    return {name_of(line) for line in lines if line.strip() and not line.startswith(("#", "-"))}


def test_requirement_lists_agree() -> None:
    project = PYPROJECT["project"]
    declared = {
        name_of(line) for line in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    }
    assert requirements(ROOT / "requirements.in") == declared
    extra = {name_of(line) for line in project["optional-dependencies"]["demo"]}
    assert requirements(ROOT / "requirements-demo.in") == extra


@pytest.mark.parametrize("name", ["requirements", "requirements-demo"])
def test_lock_is_complete_hashed_and_without_addresses(name: str) -> None:
    text = (ROOT / ("%s.lock" % name)).read_text()
    assert "://" not in text
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+) \\$", text, re.MULTILINE))
    assert requirements(ROOT / ("%s.in" % name)) <= {name_of(found) for found in pinned}
    blocks = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    assert len(blocks) == len(pinned)


def test_not_for_upload() -> None:
    assert "Private :: Do Not Upload" in PYPROJECT["project"]["classifiers"]
