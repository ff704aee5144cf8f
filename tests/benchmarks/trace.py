"""The functions of ganlab that one command calls before the first backward.

    python tests/benchmarks/trace.py [OVERRIDE …]

Runs `python -m ganlab +experiment=cgan_fashion metrics=none logger=csv` (or the overrides given) in this process, in a
temporary directory, and stops at the first `backward`. Prints, for the command line and configuration (`cli`, `config`) and in
all: how many functions of `ganlab` were called, in how many files, and how many source lines these functions have
(docstrings, comments and blank lines not counted).
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

DEFAULT = ["+experiment=cgan_fashion", "metrics=none", "logger=csv"]
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cli", "config")


class FirstBackward(BaseException):
    """Ends the run."""


def trace(overrides: list[str]) -> set[tuple[str, int]]:
    """(file, first line) of every function of ganlab that is called before the first backward pass."""
    import torch

    sys.path.insert(0, str(ROOT))
    entered: set[tuple[str, int]] = set()
    package = str(ROOT / "ganlab") + os.sep

    def profile(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(package):
            entered.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    def stop(*_, **__):
        raise FirstBackward

    torch.Tensor.backward = torch.autograd.backward = stop
    sys.argv[1:] = overrides
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        from ganlab.cli.main import main

        main()
    except (FirstBackward, SystemExit):
        pass
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return entered


def source_lines(path: str) -> dict[int, int]:
    """First line of each function (decorators included) -> its source lines, without those of functions inside it."""
    tree = ast.parse(Path(path).read_text())
    lines: dict[int, int] = {}

    def count(node: ast.AST) -> set[int]:
        """Source lines of a function's own statements."""
        own: set[int] = set()
        body = node.body if isinstance(node.body, list) else [node.body]
        if isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant):
            body = body[1:]  # the docstring
        start = body[0].lineno if body else node.lineno
        own |= set(range(node.lineno, start))
        for statement in body:
            own |= set(range(statement.lineno, statement.end_lineno + 1))
        return own

    text = Path(path).read_text().splitlines()
    functions = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    spans = {node: count(node) for node in functions}
    for node in functions:
        inner = [other for other in functions if other is not node and node.lineno <= other.lineno <= node.end_lineno]
        inner = [other for other in inner if not isinstance(other, ast.Lambda)]
        own = spans[node] - set().union(*(set(range(o.lineno, o.end_lineno + 1)) for o in inner))
        own = {n for n in own if (line := text[n - 1].strip()) and not line.startswith("#")}
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines[first] = max(lines.get(first, 0), len(own))
    return lines


def main(overrides: list[str]) -> None:
    folder, data = tempfile.mkdtemp(), Path.cwd() / "data"
    os.chdir(folder)
    entered = trace([*(overrides or DEFAULT), f"data_dir={data}"])
    files = defaultdict(list)
    for path, line in entered:
        files[path].append(line)
    rows = []
    for path, starts in files.items():
        lines_of = source_lines(path)
        hits = [lines_of[start] for start in starts if start in lines_of]  # a module's own top level is no function
        if hits:
            rows.append((Path(path).relative_to(ROOT / "ganlab"), len(hits), sum(hits)))
    for path, functions, lines in sorted(rows):
        print(f"{functions:4} functions {lines:5} lines  {path}")
    for name, some in (("command line and configuration", [r for r in rows if r[0].parts[0] in PACKAGES]), ("in all", rows)):
        print(f"{name}: {sum(r[1] for r in some)} functions in {len(some)} files, {sum(r[2] for r in some):,} lines")


if __name__ == "__main__":
    main(sys.argv[1:])
