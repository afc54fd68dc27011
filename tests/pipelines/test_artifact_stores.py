"""The local artifact store: whole or not at all, and nothing is read from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackkit import Client
from stackkit.errors import NotFoundError, PipelineError
from stackkit.pipelines.artifact_stores import LocalArtifactStore, store_of
from stackkit.stack import ComponentType
from stackkit.store import Database


@pytest.fixture
def store(client: Client) -> LocalArtifactStore:
    loaded = client.load_component(ComponentType.ARTIFACT_STORE)
    assert isinstance(loaded, LocalArtifactStore)
    return loaded


def fill(folder: Path) -> None:
    (folder / "value.json").write_text("1")


def test_it_is_in_the_home_unless_told(store: LocalArtifactStore, home: Path, client: Client, tmp_path: Path) -> None:
    assert store.root == home / "artifacts"
    client.register_component(ComponentType.ARTIFACT_STORE, "other", "local", {"path": str(tmp_path / "elsewhere")})
    other = client.load_component(ComponentType.ARTIFACT_STORE, "other")
    assert isinstance(other, LocalArtifactStore)
    assert other.root == tmp_path / "elsewhere"


def test_what_is_written_can_be_read_by_its_owner_alone(store: LocalArtifactStore) -> None:
    store.write("run/step/output", fill)
    path = store.read(store.path("run/step/output/value.json"))
    assert path.read_text() == "1"
    assert {folder.stat().st_mode & 0o777 for folder in path.parents[:4]} == {0o700}  # up to the store's own


def test_a_failed_write_leaves_nothing(store: LocalArtifactStore) -> None:
    def half(folder: Path) -> None:
        fill(folder)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        store.write("run/step/output", half)
    assert list((store.root / "run/step").iterdir()) == []


def test_a_key_is_written_once(store: LocalArtifactStore) -> None:
    store.write("run/step/output", fill)
    with pytest.raises(PipelineError, match="cannot be written"):
        store.write("run/step/output", lambda folder: (folder / "other").touch())
    assert [path.name for path in (store.root / "run/step/output").iterdir()] == ["value.json"]
    assert [path.name for path in (store.root / "run/step").iterdir()] == ["output"]


def test_a_folder_that_cannot_be_made_is_told_with_the_way_out(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    client.register_component(ComponentType.ARTIFACT_STORE, "bad", "local", {"path": str(tmp_path / "file" / "x")})
    bad = client.load_component(ComponentType.ARTIFACT_STORE, "bad")
    assert isinstance(bad, LocalArtifactStore)
    with pytest.raises(PipelineError, match="'bad' cannot be written") as caught:
        bad.write("run/step/output", fill)
    assert "stackkit artifact-store register" in (caught.value.hint or "")


def test_what_is_gone_is_told(store: LocalArtifactStore) -> None:
    with pytest.raises(NotFoundError, match="is gone from the artifact store 'default'"):
        store.read(store.path("run/step/output/value.json"))


@pytest.mark.parametrize("way", ["elsewhere", "parent", "link"])
def test_nothing_is_read_from_outside(way: str, store: LocalArtifactStore, tmp_path: Path, database: Database) -> None:
    outside = tmp_path / "outside.joblib"
    outside.touch()
    store.write("run/step/output", fill)
    uri = {
        "elsewhere": str(outside),
        "parent": f"{store.root}/../../outside.joblib",
        "link": f"{store.root}/link",
    }[way]
    (store.root / "link").symlink_to(outside)
    assert Path(uri).exists()
    with pytest.raises(PipelineError, match="does not lie in the artifact store 'default'"):
        store.read(uri)
    with pytest.raises(PipelineError, match="in no artifact store that can be used from here"):
        store_of(database, uri)


def test_the_store_of_a_uri_is_found_whatever_stack_is_active(client: Client, tmp_path: Path) -> None:
    client.register_component(ComponentType.ARTIFACT_STORE, "other", "local", {"path": str(tmp_path / "other")})
    client.stacks.register("second", {ComponentType.ARTIFACT_STORE: "other"})
    client.stacks.activate("second")
    assert store_of(client.database, str(tmp_path / "other" / "x")).name == "other"
    default = client.load_component(ComponentType.ARTIFACT_STORE, "default")
    assert isinstance(default, LocalArtifactStore)
    assert store_of(client.database, default.path("x")).name == "default"
