"""Rules of the source that no linter holds: how long a file is, and where imports stand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
MOST_LINES = 400
# What extras of pyproject.toml bring, by the names under which it is imported.
EXTRAS = {
    "accelerate", "datasets", "gguf", "guidellm", "httptools", "llama_cpp", "math_verify",
    "mcp", "opentelemetry", "orjson", "prometheus_client", "psycopg", "pyarrow", "ray", "re2",
    "reasoning_gym", "safetensors", "starlette", "sympy", "tokenizers", "torch", "transformers",
    "triton", "trl", "uvicorn", "uvloop", "vllm", "zstandard",
}  # fmt: skip
# Other imports inside functions, each with its reason.
LATE = {
    ("suffice.architecture.laws.law", "scipy.optimize"): "half a second that most uses never need",
    ("suffice.recipes.design.plots", "matplotlib.colors"): "pictures are drawn with --out only",
    ("suffice.recipes.ladder.plots", "matplotlib.patches"): "pictures are drawn on request",
    ("suffice.report.style", "matplotlib"): "pictures are drawn on request",
    ("suffice.report.style", "matplotlib.backends.backend_agg"): "pictures are drawn on request",
    ("suffice.report.style", "matplotlib.figure"): "pictures are drawn on request",
    ("suffice.evals.math_worker", "resource"): "not on Windows",
    ("suffice.evals.text_judge", "suffice.evals.statistics.binomial"): "scipy: .1 s of each start",
}


def files() -> list[Path]:
    return sorted((SOURCE / "suffice").rglob("*.py"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported(node: ast.stmt) -> list[str]:
    """Modules that an import statement names; `from a import b` may mean a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def statements(body: list[ast.stmt], *, inside: bool) -> Iterator[ast.stmt]:
    """Import statements at the top of a module (or inside its functions), types' left out."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if not inside:
                yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if inside:
                yield from (n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom))
        elif not for_types_only(node):
            for name in ("body", "orelse", "handlers", "finalbody"):
                yield from statements(getattr(node, name, []), inside=inside)


PARSED = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in files()}


@cache
def at_the_top(module: str) -> list[str]:
    return [n for node in statements(PARSED[module].body, inside=False) for n in imported(node)]


@cache
def needs_extra(module: str) -> bool:
    """Whether importing `module` imports what an extra brings."""
    seen: set[str] = set()
    left = [module]
    while left:
        name = left.pop()
        if name.partition(".")[0] in EXTRAS:
            return True
        if name in seen or name not in PARSED:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        left += [parent] if parent else []
        left += at_the_top(name)
    return False


def late_imports() -> list[tuple[str, str]]:
    """(module, what it imports inside a function) where no extra is the reason."""
    return [
        (module, imported(node)[0])
        for module, tree in PARSED.items()
        for node in statements(tree.body, inside=True)
        if not any(needs_extra(name) for name in imported(node))
    ]


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_imports_stand_at_the_top() -> None:
    found = late_imports()
    assert [each for each in found if each not in LATE] == []
    assert set(found) == set(LATE), "what is no longer late leaves the list"


def test_a_late_import_would_be_found() -> None:
    tree = ast.parse("if x:\n    def f():\n        import json\n        from a.b import c\n")
    late = list(statements(tree.body, inside=True))
    assert [imported(node) for node in late] == [["json"], ["a.b", "a.b.c"]]
    assert list(statements(tree.body, inside=False)) == []
    assert needs_extra("torch.nn")
    assert not needs_extra("suffice.core.errors")
