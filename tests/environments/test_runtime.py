from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stackkit.environments import runtime


def test_the_copy_runs_and_brings_nothing_else_of_stackkit(tmp_path: Path) -> None:
    runtime.copy_into(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import stackkit, stackkit.serving.commands as found, importlib.util as util\n"
        "print(found.__file__); print(util.find_spec('stackkit.settings'))"
    )
    command = [sys.executable, "-I", "-S", "-c", code]  # -S: with the standard library alone
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert answer == [str(tmp_path / "stackkit" / "serving" / "commands.py"), "None"]


def test_a_stackkit_that_the_model_asked_for_keeps_all_but_its_server(tmp_path: Path) -> None:
    (tmp_path / "stackkit" / "serving").mkdir(parents=True)
    (tmp_path / "stackkit" / "__init__.py").write_text("mine = True\n")
    (tmp_path / "stackkit" / "serving" / "old.py").write_text("")
    runtime.copy_into(tmp_path)
    assert (tmp_path / "stackkit" / "__init__.py").read_text() == "mine = True\n"
    assert not (tmp_path / "stackkit" / "serving" / "old.py").exists()


def test_of_a_library_that_the_model_names_its_pin_wins() -> None:
    left = runtime.requirements_beside(["UVLOOP==0.20", "numpy [extra] >=1", "pandas-stubs"])
    assert [runtime.normalized(line) for line in left] == ["httptools", "orjson", "pandas", "pyyaml"]


def test_no_bytecode_is_part_of_it() -> None:
    assert all("__pycache__" not in name for name in runtime.files())
    assert len(runtime.digest()) == 64
