"""What sentences cite is on the machine: every document that is named comes with the product."""

import ast
import glob
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from openmse.documents import FOLDER, document
from openmse.install import manual, package
from openmse.install.layout import documents

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ROOT / "src" / "openmse"
_IN_THE_REPOSITORY = re.compile(r"\bdocs/[a-zA-Z-]+\.md")
WRITERS = ("setup/screens.py",)
"""Sources that developers run, in the repository."""


def strings(tree: ast.AST) -> Iterator[str]:
    """Every text of a source but its docstrings."""
    comments = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in comments:
                yield node.value


def cited(tree: ast.AST) -> Iterator[str]:
    """What a source cites by ``document``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "document" and isinstance(node.args[0], ast.Constant):
                yield document(str(node.args[0].value))


TREES = {
    str(path.relative_to(SOURCES)): ast.parse(path.read_text()) for path in SOURCES.rglob("*.py")
}


def test_every_cited_document_is_installed() -> None:
    installed = {str(file.path) for file in package.package_layout().files}
    names = {name for tree in TREES.values() for name in cited(tree)}
    assert len(names) >= 5
    assert names - installed == set()
    templates = [path.read_text() for path in (SOURCES / "install" / "files").iterdir()]
    inside = re.compile(rf"{FOLDER}/[a-zA-Z-]+\.md")
    assert {name for text in templates for name in inside.findall(text)} - installed == set()


def test_no_sentence_names_the_repository() -> None:
    """Its folder is on no machine that only installed the product."""
    told = {
        (name, text)
        for name, tree in TREES.items()
        for text in strings(tree)
        if name not in WRITERS and _IN_THE_REPOSITORY.search(text)
    }
    assert told == set()
    others = [*(SOURCES / "install" / "files").iterdir(), *SOURCES.rglob("*.po")]
    assert [path.name for path in others if _IN_THE_REPOSITORY.search(path.read_text())] == []
    pages = manual.pages()
    assert [name for name, text in pages.items() if _IN_THE_REPOSITORY.search(text)] == []


def test_the_wheel_brings_what_is_installed() -> None:
    """setuptools takes what these patterns find, as it finds it."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = about["tool"]["setuptools"]["package-data"]["openmse"]
    base = "install/documents/"
    found = {name for pattern in patterns for name in glob.glob(pattern, root_dir=SOURCES)}
    brought = {name.removeprefix(base) for name in found if name.startswith(base)}
    assert brought == {name for name, _ in documents()}
