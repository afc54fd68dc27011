from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stackkit.environments.models import ResolvedModel, resolve
from stackkit.errors import ModelError

# what fsspec has loaded, to be put back after a test; the package hides the module behind a read-only view
REGISTRY = import_module("fsspec.registry")._registry

Fetch = Callable[[str], ResolvedModel]


class Bucket(MemoryFileSystem):
    """An object store whose contents end with the test."""

    protocol = "bucket"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("bucket://", "memory://"))
        return stripped


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Bucket]], Bucket]:
    """Make ``bucket://`` this class, with nothing in it."""

    def register(kind: type[Bucket]) -> Bucket:
        monkeypatch.setattr(Bucket, "store", {})
        monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
        monkeypatch.setitem(REGISTRY, "bucket", kind)
        return kind()

    return register


@pytest.fixture
def bucket(register: Callable[[type[Bucket]], Bucket]) -> Bucket:
    bucket = register(Bucket)
    bucket.pipe("/churn/MLmodel", b"flavors: {}\n")
    bucket.pipe("/churn/data/model.pkl", b"weights")
    bucket.pipe("/model.joblib", b"the first training")
    return bucket


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def fetch(models_folder: Path, told: list[str]) -> Fetch:
    return lambda uri: resolve(uri, models_folder=models_folder, progress=told.append)


def test_a_file(bucket: Bucket, fetch: Fetch, models_folder: Path, told: list[str]) -> None:
    model = fetch("bucket://model.joblib")
    assert model.uri == "bucket://model.joblib"
    assert model.format == "joblib"
    assert model.reference == str(models_folder / model.digest.removeprefix("sha256:") / "model.joblib")
    assert Path(model.reference).read_bytes() == b"the first training"
    assert not Path(model.reference).stat().st_mode & 0o222
    assert told == ["fetching bucket://model.joblib (18 bytes)"]


@pytest.mark.parametrize("uri", ["bucket://churn", "bucket://churn/"])
def test_a_folder(bucket: Bucket, fetch: Fetch, uri: str) -> None:
    bucket.pipe("/churn/__pycache__/code.pyc", b"bytecode")
    model = fetch(uri)
    assert model.format == "mlflow"
    files = sorted(path for path in Path(model.reference).rglob("*") if path.is_file())
    assert [path.relative_to(model.reference).as_posix() for path in files] == ["MLmodel", "data/model.pkl"]


def test_the_digest_is_that_of_the_same_files_here(bucket: Bucket, fetch: Fetch, model_folder: Path) -> None:
    assert fetch("bucket://churn").digest == fetch(str(model_folder)).digest


@pytest.mark.parametrize("uri", ["bucket://model.joblib", "bucket://churn"])
def test_an_unchanged_listing_is_not_downloaded_again(bucket: Bucket, fetch: Fetch, told: list[str], uri: str) -> None:
    first = fetch(uri)
    assert fetch(uri) == first
    assert len(told) == 1


def test_a_changed_object_is_downloaded_again(bucket: Bucket, fetch: Fetch, told: list[str]) -> None:
    first = fetch("bucket://model.joblib")
    bucket.pipe("/model.joblib", b"the 2nd training..")  # of the same size
    second = fetch("bucket://model.joblib")
    assert second.digest != first.digest
    assert len(told) == 2


def test_what_is_remembered_and_no_longer_kept_is_downloaded_again(
    bucket: Bucket, fetch: Fetch, told: list[str]
) -> None:
    model = fetch("bucket://model.joblib")
    Path(model.reference).unlink()
    assert fetch("bucket://model.joblib") == model
    assert Path(model.reference).read_bytes() == b"the first training"
    assert len(told) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "0"}', '{"files": 1, "digest": "../.."}'])
def test_a_torn_memory_is_no_memory(
    bucket: Bucket, fetch: Fetch, told: list[str], models_folder: Path, text: str
) -> None:
    model = fetch("bucket://model.joblib")
    (memory,) = (models_folder / "index").iterdir()
    memory.write_text(text)
    assert fetch("bucket://model.joblib") == model
    assert len(told) == 2
    assert json.loads(memory.read_text())["digest"] == model.digest.removeprefix("sha256:")


def test_the_memory_does_not_hold_the_uri(bucket: Bucket, fetch: Fetch, models_folder: Path) -> None:
    fetch("bucket://churn")
    (memory,) = (models_folder / "index").iterdir()
    assert memory.name == hashlib.sha256(b"bucket://churn").hexdigest() + ".json"
    assert "bucket" not in memory.read_text()


class Unmarked(Bucket):
    """Says nothing about when or how its objects changed."""

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        info: dict[str, Any] = super().info(path, **options)
        return {key: value for key, value in info.items() if key in {"name", "size", "type"}}

    def modified(self, path: str) -> None:
        raise NotImplementedError


def test_without_marks_it_is_always_downloaded(
    register: Callable[[type[Bucket]], Bucket], fetch: Fetch, told: list[str], models_folder: Path
) -> None:
    register(Unmarked).pipe("/model.joblib", b"the first training")
    assert fetch("bucket://model.joblib") == fetch("bucket://model.joblib")
    assert len(told) == 2
    assert not (models_folder / "index").exists()


class ChangedOnTheWay(Bucket):
    """Somebody uploads while the model is downloaded."""

    def get(self, *arguments: Any, **options: Any) -> None:
        super().get(*arguments, **options)
        self.pipe("/churn/MLmodel", b"flavors: {sklearn}\n")


def test_a_model_that_changes_while_it_is_fetched(
    register: Callable[[type[Bucket]], Bucket], fetch: Fetch, models_folder: Path
) -> None:
    register(ChangedOnTheWay).pipe("/churn/MLmodel", b"flavors: {}\n")
    with pytest.raises(ModelError, match="changed while it was being fetched; deploy it again"):
        fetch("bucket://churn")
    assert list(models_folder.iterdir()) == []


class Hostile(Bucket):
    """Lists a name that leads out of the folder it is listed in."""

    name = "/churn/../../../planted"

    def find(self, path: str, *arguments: Any, **options: Any) -> dict[str, Any]:
        return {self.name: {"name": self.name, "size": 1, "type": "file"}}


@pytest.mark.parametrize("name", ["/churn/../../../planted", "/planted", "/churn//planted"])
def test_a_listing_that_leads_out_of_its_folder(
    register: Callable[[type[Bucket]], Bucket],
    fetch: Fetch,
    models_folder: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Hostile, "name", name)
    register(Hostile).pipe("/churn/MLmodel", b"flavors: {}\n")
    with pytest.raises(ModelError, match="lists a file outside itself"):
        fetch("bucket://churn")
    assert not models_folder.exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError("gone"), "There is no model at bucket://churn."),
        (PermissionError("no"), "The model at bucket://churn cannot be read: permission denied."),
        (RuntimeError("broken pipe\nin frame 7"), "bucket://churn could not be fetched: broken pipe"),
        (RuntimeError(), "bucket://churn could not be fetched: RuntimeError"),
        (
            RuntimeError("403 for https://host/x?sig=abc'"),
            "bucket://churn could not be fetched: 403 for https://host/x'",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "is full: the model needs 19 bytes."),
    ],
)
def test_what_goes_wrong_on_the_way(
    bucket: Bucket,
    fetch: Fetch,
    models_folder: Path,
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(Bucket, "get", fail)
    with pytest.raises(ModelError) as refusal:
        fetch("bucket://churn")
    assert refusal.value.message.endswith(words)
    assert refusal.value.hint
    assert list(models_folder.iterdir()) == []


def test_what_is_no_model_is_not_kept(bucket: Bucket, fetch: Fetch, models_folder: Path) -> None:
    bucket.pipe("/notes/readme.md", b"no model")
    with pytest.raises(ModelError, match="bucket://notes is no model"):
        fetch("bucket://notes")
    assert list(models_folder.iterdir()) == []


def test_an_empty_folder(bucket: Bucket, fetch: Fetch) -> None:
    bucket.mkdir("/empty")
    with pytest.raises(ModelError, match=r"The folder bucket://empty is empty\."):
        fetch("bucket://empty")


def test_nothing_there(bucket: Bucket, fetch: Fetch) -> None:
    with pytest.raises(ModelError, match=r"There is no model at bucket://missing\.") as refusal:
        fetch("bucket://missing")
    assert refusal.value.hint


@pytest.mark.parametrize(("protocol", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_missing_package_is_named(fetch: Fetch, protocol: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(REGISTRY, protocol, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=f"the package that reads {protocol}:// is not installed") as refusal:
        fetch(f"{protocol}://bucket/model.joblib")
    assert refusal.value.hint == f"Install it: pip install {package}"


class Files(BaseHTTPRequestHandler):
    """A web server with one model, whose ETag is that of its contents."""

    contents: ClassVar[dict[str, bytes]] = {
        "/my%20model.joblib": b"the first training",
        "/": b"<html>welcome</html>",
    }
    downloads: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        if contents := self.answer():
            self.downloads.append(self.path)
            self.wfile.write(contents)

    def answer(self) -> bytes:
        contents = self.contents.get(self.path.partition("?")[0], b"")
        self.send_response(200 if contents else 404)
        self.send_header("Content-Length", str(len(contents)))
        if contents:
            self.send_header("ETag", f'"{hashlib.sha256(contents).hexdigest()}"')
        self.end_headers()
        return contents

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    monkeypatch.setattr(Files, "downloads", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_server(web: str, fetch: Fetch, told: list[str]) -> None:
    model = fetch(f"{web}/my%20model.joblib?signature=secret")
    assert Path(model.reference).name == "my model.joblib"
    assert Path(model.reference).read_bytes() == b"the first training"
    assert "secret" not in told[0]
    assert fetch(f"{web}/my%20model.joblib?signature=secret") == model
    assert len(Files.downloads) == 1


def test_a_web_server_without_it(web: str, fetch: Fetch) -> None:
    with pytest.raises(ModelError, match="There is no model at") as refusal:
        fetch(f"{web}/other.joblib?signature=secret")
    assert "secret" not in str(refusal.value)


def test_a_web_server_that_does_not_answer(fetch: Fetch) -> None:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    with pytest.raises(ModelError, match="could not be fetched: ") as refusal:
        fetch("http://127.0.0.1:1/model.joblib")
    assert "network" in (refusal.value.hint or "")


def test_an_address_without_a_file_name(web: str, fetch: Fetch) -> None:
    with pytest.raises(ModelError, match="names no file") as refusal:
        fetch(f"{web}/")
    assert refusal.value.hint
