"""What the page about pipelines shows runs as it stands, and so does what the README shows of them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner

from stackkit import Client
from stackkit.cli.main import cli
from stackkit.model_deployers import BaseModelDeployer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_on_the_page(
    memory_deployer: BaseModelDeployer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "page.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), encoding="utf-8")
    runpy.run_path(str(script))
    (service,) = memory_deployer.find_model_server()
    assert service.revision == 1  # going back to the run that is deployed changes nothing
    (run,) = Client().list_pipeline_runs("training")
    assert capsys.readouterr().out == (f"completed {service.prediction_url}\n{run.name} completed {{'c': 0.5}}\n")


def test_the_python_in_the_readme(
    memory_deployer: BaseModelDeployer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"## From a pipeline\n+```python\n(.*?)```", README, re.DOTALL)
    script = tmp_path / "readme.py"
    script.write_text(shown, encoding="utf-8")
    runpy.run_path(str(script))
    (service,) = memory_deployer.find_model_server()
    assert capsys.readouterr().out == f"{service.prediction_url}\n"


def test_the_commands_on_the_page(client: Client, tmp_path: Path) -> None:
    (block,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    commands = ["stackkit model-deployer register local --flavor=local", *re.findall(r"^\$ (.*)$", block, re.MULTILINE)]
    for command in commands:
        arguments = command.replace("/data/artifacts", str(tmp_path / "data")).split()[1:]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, f"{command}: {done.output}"
    assert client.active_stack.name == "large"
