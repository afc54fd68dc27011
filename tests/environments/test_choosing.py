"""Which environment a model is run in, when it is told and when it is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stackkit.environments import choosing
from stackkit.environments.choosing import choose
from stackkit.errors import ModelError


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., str]:
    """A model beside requirements of these lines."""

    def make(*lines: str) -> str:
        (tmp_path / "model.joblib").write_text("weights")
        (tmp_path / "requirements.txt").write_text("".join(f"{line}\n" for line in lines))
        return str(tmp_path / "model.joblib")

    return make


def test_a_model_that_asks_for_nothing_else_runs_here(model: Callable[..., str], tmp_path: Path) -> None:
    chosen = choose(model("numpy"), "joblib")
    assert (chosen.manager, chosen.spec, chosen.differences) == ("local", None, ())
    assert chosen.build(tmp_path / "environments", progress=print) is None
    assert not (tmp_path / "environments").exists()


def test_one_that_says_nothing_runs_here(tmp_path: Path) -> None:
    assert choose(str(tmp_path / "model.joblib"), "joblib").manager == "local"
    assert choose("json:loads", "python").manager == "local"


@pytest.mark.parametrize(("has_uv", "manager"), [(True, "uv"), (False, "virtualenv")])
def test_one_that_asks_for_something_else_gets_it(
    model: Callable[..., str], has_uv: bool, manager: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "has_manager", lambda name: has_uv)
    chosen = choose(model("no-such-package==1.0"), "joblib")
    assert chosen.manager == manager
    assert chosen.differences == ("no-such-package ==1.0 (not here)",)
    assert chosen.spec is not None
    assert chosen.spec.packages[0] == "no-such-package==1.0"


def test_what_was_told_is_done_and_the_differences_are_known(model: Callable[..., str]) -> None:
    reference = model("no-such-package==1.0")
    assert choose(reference, "joblib", "virtualenv").manager == "virtualenv"
    here = choose(reference, "joblib", "local")
    assert (here.manager, here.spec, len(here.differences)) == ("local", None, 1)


def test_what_cannot_be_read_can_be_run_here_all_the_same(model: Callable[..., str]) -> None:
    reference = model("-e .")
    with pytest.raises(ModelError, match="for editing") as raised:
        choose(reference, "joblib")
    assert "--env-manager local" in str(raised.value.hint)
    chosen = choose(reference, "joblib", "local")
    assert (chosen.manager, chosen.spec) == ("local", None)
    assert "for editing" in chosen.differences[0]


@pytest.mark.parametrize("reference", ["json:loads", "/m/model.joblib"])
def test_no_environment_is_made_of_nothing(reference: str) -> None:
    with pytest.raises(ModelError, match="says nothing of what it needs"):
        choose(reference, "python", "uv")


def test_what_only_conda_installs_is_condas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "conda.yaml").write_text("dependencies: [python=3.11, libgomp]\n")
    with pytest.raises(ModelError, match="no conda on the PATH"):
        choose(str(tmp_path), "mlflow")
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/bin/{name}")
    chosen = choose(str(tmp_path), "mlflow")
    assert (chosen.manager, chosen.differences) == ("conda", ("libgomp (from conda)",))


def test_why_it_was_not_run_here_is_told_with_why_it_cannot_be_run_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "python_env.yaml").write_text("python: 3.9.1\n")
    with pytest.raises(ModelError, match=r"needs 3\.11 or later\. What differs here: Python 3\.9 \(here "):
        choose(str(tmp_path), "mlflow")
