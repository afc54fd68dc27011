"""KServe's own inference client against a running server.

The package asks for versions that the rest of the tests cannot do with, so STACKKIT_TEST_KSERVE_PYTHON names the
interpreter of an environment that has it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PYTHON = os.environ.get("STACKKIT_TEST_KSERVE_PYTHON")
VALUES = {
    "bool": [True, False],
    "int64": [-(2**53) - 1, 2],
    "uint8": [0, 255],
    "fp32": [0.10000000149011612, 2.5],
    "fp64": [0.1, 1e300],
    "bytes": ["a", "é"],
}


def test_it_is_understood(
    tmp_path: Path, start_server: Callable[..., Any], requires: Callable[[str, str], None]
) -> None:
    if PYTHON is None:
        requires("kserve", "STACKKIT_TEST_KSERVE_PYTHON names no interpreter with the kserve package")
    path = tmp_path / "echo.py"
    path.write_text("import numpy as np\ndef predict(data):\n    return {k: np.array(v) for k, v in data.items()}\n")
    server = start_server(f"{path}:predict", model_name="echo model")
    url = f"http://127.0.0.1:{server.wait_ready().port}"
    script = Path(__file__).parent / "kserve_requests.py"
    command = [str(PYTHON), "-W", "ignore", str(script), url, "echo model"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert [seen[name] for name in ("live", "ready", "model", "stranger")] == [True, True, True, False]
    for form in ("json", "binary"):
        assert (seen[form]["id"], seen[form]["model"]) == ("7", "echo model")
        assert seen[form]["shapes"] == {name: [1, 2] for name in VALUES}
        assert {**seen[form]["values"], "fp32": None} == {**VALUES, "fp32": None}
        assert seen[form]["values"]["fp32"] == pytest.approx(VALUES["fp32"], rel=1e-7)
    assert "There is no model of that name here" in seen["refusal"]
