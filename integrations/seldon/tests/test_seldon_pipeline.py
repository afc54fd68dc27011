"""In a pipeline: the flavor is another, and the code is the same."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient
from docker.errors import ImageNotFound
from stackkit_seldon.deployer import SeldonModelDeployer
from stand_in_seldon import StandInSeldon

from stackkit.store import database as database_room
from stackkit.store import default_database

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "seldon" / "pipeline.py"

pytestmark = pytest.mark.kubernetes


@pytest.fixture(autouse=True)
def default(monkeypatch: pytest.MonkeyPatch, deployer: SeldonModelDeployer) -> Iterator[None]:
    """The database that the environment names, which is where the deployer was registered; closed at the end."""
    monkeypatch.setattr(database_room, "_databases", {})
    yield
    default_database().close()


def test_the_example_trains_deploys_and_predicts(
    deployer: SeldonModelDeployer, seldon: StandInSeldon, model_image: str, engine: DockerClient,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(seldon, "grace_seconds", 2)  # an image is removed when its pods have left
    example = runpy.run_path(str(EXAMPLE))
    example["main"]()
    assert "The prices are [[370.0], [440.0]]" in capsys.readouterr().out
    (service,) = deployer.find_model_server(pipeline_name="training", model_name="prices")
    assert service.is_running
    (built,) = service.status.details["images"]
    assert engine.images.get(built)
    service.delete(timeout=60)
    with pytest.raises(ImageNotFound):
        engine.images.get(built)
