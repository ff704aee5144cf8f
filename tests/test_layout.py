"""The packages import one another in one direction only, imports inside functions included."""

import ast
from pathlib import Path

import pytest

import ganlab

ROOT = Path(ganlab.__file__).parent
LAYERS = (  # from the bottom up; a package imports itself and what stands in lower layers
    ("utils",),
    ("config", "data", "networks", "regularizers"),
    ("models",),
    ("losses", "metrics"),
    ("analysis",),
    ("callbacks",),
    ("diagnostics",),
    ("runs",),
    ("report",),
    ("cli",),
)
LEVEL = {package: level for level, layer in enumerate(LAYERS) for package in layer}


def imports(path: Path) -> set[str]:
    """The modules of ganlab that a file imports, at the top or inside a function, as dotted names without `ganlab.`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("ganlab.") for name in names if name.startswith("ganlab.")}


def test_each_package_has_its_layer():
    packages = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert packages == LEVEL.keys()
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("package", LEVEL)
def test_imports_point_down(package):
    wrong = []
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            target = name.partition(".")[0]
            if target in LEVEL and target != package and LEVEL[target] >= LEVEL[package]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_no_module_imports_itself_through_others():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in ROOT.rglob("*.py")
    }
    graph = {
        name: {to for to in (target(i, modules) for i in imports(path)) if to and to != name} for name, path in modules.items()
    }
    done, stack = set(), []

    def visit(name):
        assert name not in stack, " -> ".join([*stack[stack.index(name) :], name])
        if name not in done:
            stack.append(name)
            for other in sorted(graph[name]):
                visit(other)
            done.add(stack.pop())

    for name in graph:
        visit(name)


def target(name: str, modules: dict[str, Path]) -> str | None:
    """The module that an imported name lives in."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None
