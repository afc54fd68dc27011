"""The example flavor, used as its readers would: a plain module in the folder they work in."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackkit import Client
from stackkit.errors import DeploymentError, ModelError, NotSupportedError, PlatformUnavailableError, PredictionError
from stackkit.model_deployers import ServiceState
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.stack import ComponentType

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_flavor" / "shelf.py"
GUIDE = ROOT / "docs" / "flavors.md"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the module, a shelf and three models in it."""
    folder = tmp_path / "work"
    shelf = folder / "shelf"
    shelf.mkdir(parents=True)
    shutil.copy(EXAMPLE, folder)
    (shelf / "shelf.json").write_text(json.dumps({"id": "1", "name": "tests", "max_bytes": 1000}), encoding="utf-8")
    for name, table in (("one", {"ann": "tea"}), ("two", {"ann": "milk"}), ("large", {"ann": "tea" * 1000})):
        (folder / f"{name}.json").write_text(json.dumps(table), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("shelf", None)


class TestShelf(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, client: Client, work: Path) -> Subject:
        client.flavors.register(ComponentType.MODEL_DEPLOYER, "shelf.ShelfModelDeployerFlavor")
        client.register_component(ComponentType.MODEL_DEPLOYER, "team", "shelf", {"folder": str(work / "shelf")})
        return Subject(
            client.model_deployer("team"),
            model={"model_uri": "one.json"},
            other_model={"model_uri": "two.json"},
            inputs=["ann", "bob"],
            broken_model={"model_uri": "large.json"},  # the shelf refuses it when it is started
            timeout=10,
        )

    def test_it_answers_from_the_table_that_is_served(self, subject: Subject) -> None:
        service = subject.deploy(fallback="water")
        assert service.predict(["ann", "bob"]) == ["tea", "water"]
        subject.deploy(model_uri="two.json", replace=True)
        assert service.predict(["ann", "bob"]) == ["milk", None]

    def test_what_it_serves_stays_when_the_model_file_changes_or_goes(self, subject: Subject, work: Path) -> None:
        service = subject.deploy()
        (work / "one.json").unlink()
        service.stop()
        service.start()
        assert service.predict(["ann"]) == ["tea"]

    def test_an_update_from_another_folder_is_about_the_same_model(
        self, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = subject.deploy()
        (tmp_path / "one.json").write_text(json.dumps({"ann": "another's"}), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        updated = subject.deployer.update_model_server(service, fallback="water")
        assert updated.predict(["ann", "bob"]) == ["tea", "water"]

    def test_a_shelf_that_is_not_there_makes_its_services_unknown(self, subject: Subject, work: Path) -> None:
        service = subject.deploy()
        (work / "shelf").rename(work / "elsewhere")
        seen = service.refresh()
        assert seen.status.state is ServiceState.UNKNOWN
        assert "no shelf" in seen.status.message
        with pytest.raises(PlatformUnavailableError, match="no shelf"):
            service.delete()
        (work / "elsewhere").rename(work / "shelf")
        assert service.refresh().is_running

    @pytest.mark.parametrize("half", ["json", "table"])
    def test_what_is_half_there_is_made_whole(self, subject: Subject, work: Path, half: str) -> None:
        service = subject.deploy()
        (gone,) = (work / "shelf").glob(f"stackkit-{service.id}*.{half}")
        gone.unlink()
        assert service.refresh().status.state is ServiceState.ERROR
        with pytest.raises(PredictionError, match="not on the shelf"):
            service.predict(["ann"])
        service.start()
        assert service.predict(["ann"]) == ["tea"]

    @pytest.mark.parametrize(("text", "words"), [(None, "cannot be read"), ("{", "cannot be read"), ("[]", "no table")])
    def test_a_model_that_is_none_changes_nothing(
        self, subject: Subject, work: Path, text: str | None, words: str
    ) -> None:
        if text is not None:
            (work / "wrong.json").write_text(text, encoding="utf-8")
        with pytest.raises(ModelError, match=words):
            subject.deploy(model_uri="wrong.json")
        assert not subject.deployer.find_model_server()

    def test_too_large_a_table_is_told_in_the_platforms_words(self, subject: Subject) -> None:
        with pytest.raises(DeploymentError, match="up to 1000 bytes"):
            subject.deploy(model_uri="large.json")

    def test_a_log_that_cannot_be_followed_is_refused(self, subject: Subject) -> None:
        service = subject.deploy()
        assert list(service.logs()) == ["serving revision 1"]
        with pytest.raises(NotSupportedError):
            service.logs(follow=True)

    def test_nothing_stays_on_the_shelf_after_a_deletion(self, subject: Subject, work: Path) -> None:
        subject.deploy()
        subject.deploy(model_uri="two.json", replace=True).delete()
        assert [path.name for path in (work / "shelf").iterdir()] == ["shelf.json"]

    def test_it_is_found_from_another_folder_once_registered(
        self, subject: Subject, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = subject.deploy()
        monkeypatch.chdir(tmp_path)
        del sys.modules["shelf"]
        (found,) = Client(client.settings).servers.find()
        assert (found.uuid, found.is_running) == (service.uuid, True)


def test_the_guide_shows_the_code_as_it_is() -> None:
    sources = EXAMPLE.read_text(encoding="utf-8") + Path(__file__).read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    for block in shown:
        assert block in sources
