"""The arrows between packages and modules, and the size of modules."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("runner", "connectors", "sensors", "orchestra")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports(module: str, *, top: bool) -> Iterator[str]:
    """Return what a module imports; at module level only, or anywhere."""
    tree = ast.parse(FILES[module].read_text("utf-8"))
    yield from _imports(tree.body, top=top)


def _imports(body: list[ast.stmt], *, top: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert node.module
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            # To take a module out of a package needs the package no more than to name the module itself does.
            if not all(name in FILES for name in found):
                yield node.module
            yield from found
        elif top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif top and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from _imports(node.orelse, top=top)
        else:
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, name, [])
                for part in inner if isinstance(inner, list) else []:
                    yield from _imports([part] if isinstance(part, ast.stmt) else part.body, top=top)


def packages_used(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module, top=False)} & set(PACKAGES)


def test_there_is_something_to_look_at():
    assert {"runner.plan", "connectors.postgres.decode"} <= set(FILES)
    assert "runner.errors" in set(imports("runner.plan", top=True))


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("runner", {"runner"}),
        ("connectors", {"runner", "connectors"}),
        ("sensors", {"runner", "connectors", "sensors"}),
        ("orchestra", set(PACKAGES)),
    ],
)
def test_arrows_point_one_way(package, allowed):
    wrong = {
        module: sorted(used)
        for module in FILES
        if module.partition(".")[0] == package and (used := packages_used(module) - allowed)
    }
    assert wrong == {}


def test_no_cycles_at_module_level():
    graph = {
        module: {name for name in imports(module, top=True) if name in FILES and name != module} for module in FILES
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_modules_stay_small():
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in FILES.items()}
    assert {module: count for module, count in lines.items() if count > 900} == {}
    assert len([module for module, count in lines.items() if count > 600]) <= 1


@pytest.mark.parametrize("word", ["utils", "util", "helpers", "helper", "common", "manager", "misc"])
def test_modules_are_named_for_what_they_do(word):
    assert [module for module in FILES if word in module.rpartition(".")[2].split("_")] == []


def test_dbt_is_not_a_package():
    assert list((ROOT / "dbt").rglob("__init__.py")) == []
