"""Many processes that want the same at once, on every database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stackkit.model_deployers import BaseModelDeployer


@pytest.mark.faults
@pytest.mark.all_databases
def test_fifty_processes_that_deploy_the_same_get_one_server(
    deployer: BaseModelDeployer, models: dict[str, str], tmp_path: Path
) -> None:
    code = (
        "import sys; from stackkit.model_deployers import LocalModelDeployer as L;"
        "print(L.get_active_model_deployer().deploy_model(model_name='m', model_uri=sys.argv[1]).id)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, models["one"]], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(50)
    ]
    answers = {process.communicate(timeout=120)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 50
    (service,) = deployer.find_model_server()
    assert answers == {service.id}
    assert service.is_running
    started = [line for line in service.logs() if "worker 0 started" in line]
    assert len(started) == 1
