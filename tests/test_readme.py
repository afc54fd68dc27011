"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import joblib
import pytest
from sklearn.linear_model import LogisticRegression

from stackkit import Client
from stackkit.stack import ComponentType

README = Path(__file__).parent.parent / "README.md"


def snippet(heading: str) -> str:
    section = README.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_python_snippet_deploys_then_finds_then_starts(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "path/to/model").mkdir(parents=True)
    joblib.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "path/to/model/model.joblib")
    (tmp_path / "snippet.py").write_text(snippet("From Python"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    try:
        said = []
        for _ in range(2):
            runpy.run_path("snippet.py")
            said.append(capsys.readouterr().out)
        (service,) = client.servers.find()
        assert said == [
            f"Model server iris is deployed at {service.prediction_url}\n",
            f"Model server iris is running at {service.prediction_url}\n",
        ]
        service.stop()
        runpy.run_path("snippet.py")
        assert service.refresh().is_running
    finally:
        for each in client.servers.find(refresh=False):
            each.delete()


ROOT = README.parent
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
