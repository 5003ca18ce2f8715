"""The public names, read off the source: nothing is imported, so no optional library need be there.

A name that several modules offer belongs to the one that defines it: `projection_guard.Failure` and
`projection_guard._model.Failure` are one.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["PACKAGE", "ROOT", "Name", "docstring_of", "home", "inherited", "public_modules", "public_names"]

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "projection_guard"
NOT_FOR_USERS: Final = {
    "projection_guard.demo": "a program to be watched",
    "projection_guard.migrations.env": "Alembic runs it",
    "projection_guard.migrations.versions": "Alembic runs them",
    "projection_guard.django.management": "Django finds it; docs/django.md shows the command",
}


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """A name and the module that it is taken from."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@cache
def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((each for each in (path / "__init__.py", path.with_suffix(".py")) if each.is_file()), None)


@cache
def _tree(module: str) -> ast.Module:
    path = _file_of(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def public_modules() -> list[str]:
    """Return the modules that users import: those without an underscore, but for what is not for them."""
    found: list[str] = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if any(part.startswith("_") for part in module.split(".")):
            continue
        if not any(module == left_out or module.startswith(f"{left_out}.") for left_out in NOT_FOR_USERS):
            found.append(module)
    return found


def public_names(module: str) -> list[str]:
    """Return a module's `__all__`."""
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "__all__" for to in node.targets):
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__: what it offers cannot be told")


@cache
def home(name: Name) -> Name:
    """Return where a name is defined, following the imports of the package's own modules."""
    for node in ast.walk(_tree(name.module)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name.name:
                    origin = _absolute(name.module, node)
                    return home(Name(origin, alias.name)) if _file_of(origin) is not None else name
    return name


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    path = _file_of(module)
    parts = module.split(".")
    above = node.level - (path is not None and path.name == "__init__.py")
    return ".".join([*parts[: len(parts) - above], *(node.module or "").split(".")]).rstrip(".")


def inherited(name: Name) -> list[str]:
    """Return a class's public methods in the order to read them, its own first; none where it inherits none of ours."""
    own, *bases = [_methods(each) for each in _lineage(home(name))] or [[]]
    return [*own, *(method for base in bases for method in base)] if any(bases) else []


def _class(found: Name) -> ast.ClassDef | None:
    body = _tree(found.module).body if _file_of(found.module) is not None else []
    return next((node for node in body if isinstance(node, ast.ClassDef) and node.name == found.name), None)


def _lineage(found: Name) -> list[Name]:
    node = _class(found)
    if node is None:
        return []
    names = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    bases = [home(Name(found.module, base.id)) for base in names if isinstance(base, ast.Name)]
    return [found, *(each for base in bases for each in _lineage(base))]


def _methods(found: Name) -> list[str]:
    node = _class(found)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [each.name for each in node.body if isinstance(each, kinds)] if node is not None else []
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def docstring_of(name: Name) -> str | None:
    """Return the docstring of what a name stands for; of a constant or an alias, the text below it."""
    found = home(name)
    body = _tree(found.module).body
    texts = [_text(node, following, found.name) for node, following in zip(body, [*body[1:], None], strict=True)]
    return next((text for text in texts if text is not None), None)  # of overloads, the last one has it


def _text(node: ast.stmt, following: ast.stmt | None, name: str) -> str | None:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
            return ast.get_docstring(node)
        case ast.Assign(targets=[ast.Name(id=bound)]) | ast.AnnAssign(target=ast.Name(id=bound)) if bound == name:
            below = following.value if isinstance(following, ast.Expr) else None
            return below.value if isinstance(below, ast.Constant) and isinstance(below.value, str) else None
        case _:
            return None
