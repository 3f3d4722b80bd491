"""Public names of a package, imported when they are first used, and old names of modules.

`import suffice` then costs milliseconds, and a file can move without breaking who imports the name
from its package. Who imports a file itself by an old name is told the new one.
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False  # typing's own would be half of what `import suffice` costs
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


def exported(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """A `__getattr__` for `package` that finds each name in its module (module: names)."""
    where = {name: module for module, names in modules.items() for name in names}

    def find(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(where[name]), name)

    return find


class RenamedModules:
    """Asked by `import` for what nobody else has found: names the module by its new name."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        """None, or ModuleNotFoundError with the new name of a module in suffice/renamed.txt."""
        del path, target
        if not name.startswith("suffice."):
            return
        resources = import_module("importlib.resources")  # hardly ever needed, and not quick
        text = resources.files("suffice").joinpath("renamed.txt").read_text(encoding="utf-8")
        now = dict(line.split() for line in text.splitlines()).get(name)
        if now is not None:
            raise ModuleNotFoundError(f"{name} is {now} now (see CHANGELOG.md)", name=name)


def explain_old_names() -> None:
    """Let imports of modules by an old name fail with the new one."""
    sys.meta_path.append(RenamedModules)
