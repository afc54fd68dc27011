"""Where a model server would import a module from: ``python -P -m stackkit.environments.find_module NAME``.

A program of its own, because this process's import path is not the server's: ours may start with the folder of a
script or with the working directory. It prints one JSON object: ``found``, and ``source``, the file of a module or the
folder of the outermost package that it is part of (null when it has neither, as what is built into Python).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path


def find_module(module: str) -> tuple[bool, Path | None]:
    """Whether there is such a module, and its source as above. Imports neither the module nor its packages."""
    source: Path | None = None
    name, _, rest = module.partition(".")
    spec = _find_top_level(name)
    while spec is not None:
        if source is None and spec.has_location and spec.origin is not None:
            source = Path(spec.origin) if spec.submodule_search_locations is None else Path(spec.origin).parent
        if not rest:
            return True, source if source is not None and source.exists() else None
        part, _, rest = rest.partition(".")
        name = f"{name}.{part}"
        spec = _find_inside(name, spec.submodule_search_locations)
    return False, None


def _find_top_level(name: str) -> ModuleSpec | None:
    return None if name == "__main__" else find_spec(name)  # that would be this very program


def _find_inside(name: str, locations: Iterable[str] | None) -> ModuleSpec | None:
    return None if locations is None else PathFinder.find_spec(name, list(locations))


if __name__ == "__main__":
    found, where = find_module(sys.argv[1])
    json.dump({"found": found, "source": None if where is None else str(where)}, sys.stdout)
