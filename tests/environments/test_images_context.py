"""What goes into an image, without an engine."""

from __future__ import annotations

import io
import stat
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stackkit.environments.images import BuildContext, make_context
from stackkit.environments.images.context import SOURCE_DATE, ContextFile
from stackkit.environments.models import ResolvedModel, resolve
from stackkit.errors import ImageError, ModelError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"

Resolve = Callable[..., ResolvedModel]


@pytest.fixture
def model(models_folder: Path, model_folder: Path) -> Resolve:
    """Resolve an MLflow folder that holds further files, by their names and texts."""

    def make(**texts: str) -> ResolvedModel:
        for name, text in (texts or {"requirements__txt": ""}).items():
            (model_folder / name.replace("__", ".")).write_text(text)
        return resolve(str(model_folder), models_folder=models_folder)

    return make


def text(context: BuildContext, name: str) -> str:
    file = next(file for file in context.files if file.name == name)
    return b"".join(file.chunks()).decode()


def requirements(context: BuildContext) -> list[str]:
    return text(context, "requirements/requirements.txt").splitlines()


def members(context: BuildContext) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(context.tar()))) as archive:
        return {member.name: member for member in archive}


def test_requirements_come_before_the_runtime_and_the_runtime_before_the_model(model: Resolve) -> None:
    dockerfile = text(make_context(model()), "Dockerfile")
    final = dockerfile.rpartition("FROM ")[2]
    assert [line for line in final.splitlines() if line.startswith("COPY")] == [
        "COPY --from=environment /layer /",
        "COPY --from=runtime /layer /",
        "COPY model /",
    ]


def test_a_change_of_the_model_changes_nothing_above_it(model: Resolve, model_folder: Path) -> None:
    before = text(make_context(model()), "Dockerfile")
    (model_folder / "data" / "model.pkl").write_bytes(b"retrained")
    after = text(make_context(model()), "Dockerfile")
    assert before != after
    assert before.partition("COPY model /")[0] == after.partition("COPY model /")[0]


def test_the_same_model_gives_the_same_bytes(model: Resolve, model_folder: Path) -> None:
    first = b"".join(make_context(model()).tar())
    (model_folder / "data" / "model.pkl").touch()
    assert b"".join(make_context(model()).tar()) == first


def test_the_model_lies_where_the_server_looks(model: Resolve, models_folder: Path, tmp_path: Path) -> None:
    context = make_context(model())
    assert 'ENV STACKKIT_SERVING_MODEL="/opt/stackkit/model/model"' in text(context, "Dockerfile")
    assert text(context, "model/opt/stackkit/model/model/data/model.pkl") == "weights"
    file = tmp_path / "odd $name.py"
    file.write_text("def predict(rows): return rows\n")
    context = make_context(resolve(f"{file}:predict", models_folder=models_folder))
    quoted = 'ENV STACKKIT_SERVING_MODEL="/opt/stackkit/model/odd \\$name.py:predict"'
    assert quoted in text(context, "Dockerfile")
    assert "model/opt/stackkit/model/odd $name.py" in members(context)


def test_everybody_may_read_what_is_in_it(model: Resolve) -> None:
    for member in members(make_context(model())).values():
        assert member.mode == (0o755 if member.isdir() else 0o644)
        assert (member.uid, member.gid, member.mtime) == (0, 0, SOURCE_DATE)


def test_labels_say_what_is_served(model: Resolve, model_folder: Path) -> None:
    resolved = model()
    dockerfile = text(make_context(resolved, base_image="example.org/python:3.12@sha256:0"), "Dockerfile")
    assert f'stackkit.model.uri="{model_folder}"' in dockerfile
    assert f'stackkit.model.digest="{resolved.digest}"' in dockerfile
    assert 'org.opencontainers.image.base.name="example.org/python:3.12@sha256:0"' in dockerfile


def test_a_signature_in_the_uri_is_not_in_the_image(model: Resolve) -> None:
    resolved = model()
    signed = ResolvedModel("https://h/m.joblib?sig=secret", resolved.digest, resolved.reference, resolved.format)
    dockerfile = text(make_context(signed), "Dockerfile")
    assert "secret" not in dockerfile
    assert 'stackkit.model.uri="https://h/m.joblib"' in dockerfile
    with pytest.raises(ImageError, match="a query, which may be a signature") as caught:
        make_context(signed, fetch_at_start=True)
    assert "secret" not in str(caught.value)


def test_requirements_are_pinned_as_the_model_asks(model: Resolve) -> None:
    asked = "--extra-index-url https://example.org/simple\n-c limits.txt\nscikit-learn==1.5.2\nhttptools==0.6.4\n"
    context = make_context(model(requirements__txt=asked, limits__txt="scipy<1.15\n"))
    assert requirements(context)[:4] == [
        "--extra-index-url https://example.org/simple",
        "--constraint constraints.txt",
        "scikit-learn==1.5.2",
        "httptools==0.6.4",
    ]
    assert text(context, "requirements/constraints.txt") == "scipy<1.15\n"
    names = [line.partition(">")[0] for line in requirements(context)[4:]]
    assert "numpy" in names
    assert "httptools" not in names


def test_a_file_that_the_requirements_name_comes_along(model: Resolve, model_folder: Path) -> None:
    wheels = model_folder / "wheels"
    wheels.mkdir()
    (wheels / "churn-1.0-py3-none-any.whl").write_bytes(b"wheel")
    asked = "--find-links wheels\n./wheels/churn-1.0-py3-none-any.whl ; python_version > '3'\n"
    context = make_context(model(requirements__txt=asked))
    options, line, *_ = requirements(context)
    folder, name = options.removeprefix("--find-links /build/"), line.split(" ", 1)[0].removeprefix("/build/")
    assert text(context, f"requirements/{folder}/churn-1.0-py3-none-any.whl") == "wheel"
    assert text(context, f"requirements/{name}") == "wheel"
    assert line.endswith("/churn-1.0-py3-none-any.whl ; python_version > '3'")
    assert str(model_folder.parent) not in text(context, "requirements/requirements.txt")


def test_of_a_folder_elsewhere_nothing_but_archives_comes_along(model: Resolve, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "churn-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (elsewhere / "id_rsa").write_text("secret")
    context = make_context(model(requirements__txt=f"--find-links '{elsewhere}'\nchurn\n"))
    names = [file.name for file in context.files if file.name.startswith("requirements/local/")]
    assert [name.rpartition("/")[2] for name in names] == ["churn-1.0-py3-none-any.whl"]
    option = f"--find-links '/build/{names[0].removeprefix('requirements/').rpartition('/')[0]}'"
    assert requirements(context)[0] == option
    (tmp_path / "id_rsa").write_text("secret")
    context = make_context(model(requirements__txt=f"--find-links {tmp_path / 'id_rsa'}\n"))
    assert not [file.name for file in context.files if file.name.startswith("requirements/local/")]


def test_hashes_are_wanted_of_the_models_own_requirements_alone(model: Resolve) -> None:
    asked = f"--require-hashes\n-c limits.txt\nscikit-learn==1.5.2 --hash=sha256:{'0' * 64}\n"
    context = make_context(model(requirements__txt=asked, limits__txt="scipy<1.15\n"))
    assert requirements(context) == [
        "--require-hashes",
        "--constraint constraints.txt",
        f"scikit-learn==1.5.2 --hash=sha256:{'0' * 64}",
    ]
    beside = text(context, "requirements/server-requirements.txt").splitlines()
    assert beside[:2] == ["--constraint constraints.txt", "scikit-learn==1.5.2"]
    assert any(line.startswith("httptools>") for line in beside)
    dockerfile = text(context, "Dockerfile")
    assert dockerfile.index("/build/requirements.txt") < dockerfile.index("/build/server-requirements.txt")


def test_a_password_that_this_machine_alone_knows_is_refused(model: Resolve) -> None:
    asked = "--extra-index-url https://${TOKEN}@example.org/simple\nchurn\n"
    with pytest.raises(ImageError, match=r"name the variable \$\{TOKEN\}, which no build gets") as caught:
        make_context(model(requirements__txt=asked))
    assert "PIP_EXTRA_INDEX_URL" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("python_env", "base"),
    [("python: 3.12.1\n", "python:3.12-slim"), ("dependencies: []\n", f"python:{HERE}-slim")],
    ids=["asked", "here"],
)
def test_the_base_image_is_the_python_that_the_model_asks_for(model: Resolve, python_env: str, base: str) -> None:
    dockerfile = text(make_context(model(python_env__yaml=python_env)), "Dockerfile")
    assert f"FROM {base} AS environment" in dockerfile
    assert ("the model asks for Python 3.12" in dockerfile) == (base == "python:3.12-slim")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"python_env__yaml": "python: 3.8.2\n"}, "asks for Python 3.8.2, and the model server needs 3.11 or newer"),
        ({"conda__yaml": "dependencies: [python=3.11, ffmpeg=6]\n"}, "only conda can install: ffmpeg=6"),
    ],
    ids=["python", "conda"],
)
def test_what_no_image_can_be_made_of(model: Resolve, files: dict[str, str], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        make_context(model(**files))


def test_a_model_that_does_not_say_what_it_needs_is_refused(models_folder: Path, model_file: Path) -> None:
    with pytest.raises(ImageError, match="says nothing of what it needs"):
        make_context(resolve(str(model_file), models_folder=models_folder))
    (model_file.parent / "requirements.txt").write_text("scikit-learn==1.5.2\n")
    assert requirements(make_context(resolve(str(model_file), models_folder=models_folder)))[0] == "scikit-learn==1.5.2"


def test_python_code_may_need_nothing(models_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def predict(rows): return rows\n")
    context = make_context(resolve(f"{tmp_path / 'model.py'}:predict", models_folder=models_folder))
    assert all(">=" in line for line in requirements(context))


def test_a_module_is_not_in_an_image(models_folder: Path) -> None:
    with pytest.raises(ImageError, match="json:dumps is a module of this environment"):
        make_context(resolve("json:dumps", models_folder=models_folder))


@pytest.mark.parametrize("name", ["two words", "", "-flag", "a\nRUN evil", "$(evil)"])
def test_a_base_image_is_a_name_and_nothing_else(model: Resolve, name: str) -> None:
    with pytest.raises(ImageError, match="is no name of an image"):
        make_context(model(), base_image=name)


def test_a_model_that_is_fetched_is_not_in_the_image(model: Resolve) -> None:
    resolved = model()
    stored = ResolvedModel("s3://bucket/churn", resolved.digest, resolved.reference, resolved.format)
    context = make_context(stored, fetch_at_start=True)
    assert not [file.name for file in context.files if file.name.startswith("model/")]
    assert "COPY model" not in text(context, "Dockerfile")
    assert 'STACKKIT_SERVING_MODEL="s3://bucket/churn"' in text(context, "Dockerfile")
    assert f'STACKKIT_SERVING_MODEL_DIGEST="{resolved.digest}"' in text(context, "Dockerfile")
    assert {"fsspec", "s3fs"} <= set(requirements(context))


@pytest.mark.parametrize("uri", ["/models/churn", "models:/churn/3", "runs:/1/model", "file:///models/churn"])
def test_what_a_container_cannot_fetch_is_refused(model: Resolve, uri: str) -> None:
    resolved = model()
    local = ResolvedModel(uri, resolved.digest, resolved.reference, resolved.format)
    with pytest.raises(ImageError, match="cannot be fetched when a container starts"):
        make_context(local, fetch_at_start=True)


def test_certificates_are_for_the_build_alone(model: Resolve) -> None:
    context = make_context(model(), ca_bundle=b"certificates")
    assert text(context, "requirements/ca-bundle.pem") == "certificates"
    assert "ca-bundle" not in text(context, "Dockerfile")


# writing it


def test_a_context_is_written_as_it_is_sent(model: Resolve, tmp_path: Path) -> None:
    context = make_context(model())
    context.write(tmp_path / "deep" / "context")
    sent = members(context)
    for path in (tmp_path / "deep" / "context").rglob("*"):
        member = sent.pop(path.relative_to(tmp_path / "deep" / "context").as_posix())
        status = path.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (member.mode, member.mtime)
    assert sent == {}


def test_an_empty_folder_will_do(model: Resolve, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    make_context(model()).write(tmp_path / "context")
    assert (tmp_path / "context" / "Dockerfile").is_file()


def test_a_folder_that_holds_something_is_left_alone(model: Resolve, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "notes").write_text("mine")
    with pytest.raises(ImageError, match="is not empty"):
        make_context(model()).write(tmp_path / "context")
    assert [path.name for path in (tmp_path / "context").iterdir()] == ["notes"]


@pytest.mark.parametrize("now", [b"longer than it was", b"short"], ids=["longer", "shorter"])
def test_a_file_that_changes_meanwhile_leaves_nothing(tmp_path: Path, now: bytes) -> None:
    source = tmp_path / "model.joblib"
    source.write_bytes(b"as it was")
    context = BuildContext("base", (ContextFile.of_path("model.joblib", source),))
    source.write_bytes(now)
    with pytest.raises(ModelError, match="changed while it was being copied"):
        context.write(tmp_path / "context")
    assert [path.name for path in tmp_path.iterdir()] == ["model.joblib"]
