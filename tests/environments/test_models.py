"""Local models, and what is refused before anything is looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stackkit.environments import requirements
from stackkit.environments.models import find_missing, resolve
from stackkit.errors import ModelError


def test_a_file(model_file: Path, models_folder: Path) -> None:
    model = resolve(str(model_file), models_folder=models_folder)
    digest = model.digest.removeprefix("sha256:")
    assert len(digest) == 64
    assert model.uri == str(model_file)
    assert model.reference == str(models_folder / digest / "model.joblib")
    assert model.format == "joblib"


def test_a_folder(model_folder: Path, models_folder: Path) -> None:
    model = resolve(str(model_folder), models_folder=models_folder)
    assert model.reference == str(models_folder / model.digest.removeprefix("sha256:") / "model")
    assert model.format == "mlflow"


def test_every_spelling_of_a_path_is_one_model(
    model_file: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_file.parent)
    monkeypatch.setenv("HOME", str(model_file.parent))
    spellings = [
        str(model_file),
        "model.joblib",
        "./model.joblib",
        f"../{model_file.parent.name}/model.joblib",
        "~/model.joblib",
        model_file.as_uri(),
        f"file://localhost{model_file}",
    ]
    assert len({resolve(uri, models_folder=models_folder) for uri in spellings}) == 1


def test_a_file_uri_is_decoded(model_file: Path, models_folder: Path) -> None:
    spaced = model_file.rename(model_file.parent / "my model.joblib")
    assert "%20" in spaced.as_uri()
    assert resolve(spaced.as_uri(), models_folder=models_folder).uri == str(spaced)


def test_a_models_folder_given_relatively(
    model_file: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models_folder.mkdir(parents=True)
    monkeypatch.chdir(models_folder.parent)
    assert Path(resolve(str(model_file), models_folder=Path("models")).reference).is_absolute()


def test_the_next_training_is_another_model_and_the_last_one_stays(model_file: Path, models_folder: Path) -> None:
    first = resolve(str(model_file), models_folder=models_folder)
    model_file.write_bytes(b"the second training")
    second = resolve(str(model_file), models_folder=models_folder)
    assert first.uri == second.uri
    assert first.digest != second.digest
    assert Path(first.reference).read_bytes() == b"the first training"


def test_in_place_copies_nothing(model_folder: Path, models_folder: Path) -> None:
    model = resolve(str(model_folder), models_folder=models_folder, in_place=True)
    assert model.reference == str(model_folder)
    assert not models_folder.exists()
    assert model.digest == resolve(str(model_folder), models_folder=models_folder).digest


@pytest.mark.parametrize("in_place", [False, True])
def test_an_attribute_of_a_file(
    tmp_path: Path, models_folder: Path, in_place: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.py").write_text("raise RuntimeError('the file was run')\n")
    monkeypatch.chdir(tmp_path)
    model = resolve("./model.py:predict", models_folder=models_folder, in_place=in_place)
    assert model.uri == f"{tmp_path / 'model.py'}:predict"
    assert model.format == "python"
    served = tmp_path if in_place else models_folder / model.digest.removeprefix("sha256:")
    assert model.reference == f"{served / 'model.py'}:predict"


def test_a_file_that_looks_like_a_reference_is_a_file(
    tmp_path: Path, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json:loads").mkdir()
    (tmp_path / "json:loads" / "MLmodel").touch()
    monkeypatch.chdir(tmp_path)
    assert resolve("json:loads", models_folder=models_folder).format == "mlflow"


def test_progress_is_told(model_file: Path, models_folder: Path) -> None:
    told: list[str] = []
    resolve(str(model_file), models_folder=models_folder, progress=told.append)
    assert told == ["copying 18 bytes"]


def test_what_is_no_model_is_refused_and_not_kept(tmp_path: Path, models_folder: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no model")
    with pytest.raises(ModelError, match=r"notes\.txt is no model: expected an MLflow folder"):
        resolve(str(notes), models_folder=models_folder)
    with pytest.raises(ModelError, match="is no model"):
        resolve(str(tmp_path), models_folder=models_folder)
    assert not models_folder.exists()


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("", "The model URI is empty."),
        ("  ", "The model URI is empty."),
        ("a\0b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("\udcff.joblib", "cannot be printed"),
        ("no/such.joblib", "There is no model at /"),
        ("/no/such.joblib", "There is no model at /no/such.joblib."),
        ("file:///no/such%20one", "There is no model at /no/such one."),
        ("./no/such.py:predict", "There is no model at /"),
        ("file://elsewhere/model.joblib", "names a file on another machine (elsewhere)."),
        ("~nobody-of-this-name/model.joblib", "There is no model at ~nobody-of-this-name/model.joblib"),
        ("no_such_module:predict", "There is no module no_such_module"),
        ("x" * 5000, "cannot be read"),
        ("gopher://host/model.joblib", "the protocol gopher:// is unknown"),
        ("https://[bad/model.joblib", "is no model URI"),
    ],
)
def test_bad_uris_get_one_line_and_a_hint(uri: str, words: str, models_folder: Path) -> None:
    with pytest.raises(ModelError) as refusal:
        resolve(uri, models_folder=models_folder)
    assert words in refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.hint
    assert "\n" not in refusal.value.hint
    assert not models_folder.exists()


@pytest.mark.parametrize(
    "uri", ["https://me:hunter2@host/model.joblib", "s3://me:hunter2@bucket/model", "https://hunter2@host/model.joblib"]
)
def test_a_password_is_refused_and_not_repeated(uri: str, models_folder: Path) -> None:
    with pytest.raises(ModelError, match="holds a password or a token") as refusal:
        resolve(uri, models_folder=models_folder)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["memory://model.joblib", "models:/churn/1", "runs:/1/model"])
def test_what_is_not_here_cannot_be_served_in_place(uri: str, models_folder: Path) -> None:
    with pytest.raises(ModelError, match="cannot be served in place") as refusal:
        resolve(uri, models_folder=models_folder, in_place=True)
    assert refusal.value.hint


def test_a_parent_after_a_link_is_where_the_link_leads(model_file: Path, models_folder: Path) -> None:
    (model_file.parent / "inner").mkdir()
    link = model_file.parent.parent / "link"
    link.symlink_to(model_file.parent / "inner")
    uri = f"{link}{os.sep}..{os.sep}model.joblib"
    assert resolve(uri, models_folder=models_folder).uri == str(model_file)


def test_what_lies_there_no_more_is_found_missing(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    assert find_missing(str(file)) == file
    assert find_missing(f"{file}:predict") == Path(f"{file}")
    file.touch()
    assert find_missing(str(file)) is None
    assert find_missing(f"{file}:predict") is None
    assert find_missing("json:loads") is None, "a module lies nowhere"


def test_what_the_requirements_beside_a_file_include_is_kept_with_it(tmp_path: Path, models_folder: Path) -> None:
    work = tmp_path / "work"
    (work / "wheels").mkdir(parents=True)
    (work / "model.py").write_text("def predict(rows): return rows\n")
    (work / "requirements.txt").write_text("-r base.txt\n./wheels/own-1.0-py3-none-any.whl\n")
    (work / "base.txt").write_text("numpy==2.0\n")
    (work / "wheels" / "own-1.0-py3-none-any.whl").write_bytes(b"wheel")
    (work / "data.csv").write_text("not asked for")
    first = resolve(f"{work}/model.py:predict", models_folder=models_folder)
    asked = requirements.read(first.reference, first.format)
    kept = Path(first.reference.partition(":")[0]).parent
    assert asked.packages == ("numpy==2.0", f"{kept}/wheels/own-1.0-py3-none-any.whl")
    assert not (kept / "data.csv").exists()
    (work / "base.txt").write_text("numpy==2.1\n")
    second = resolve(f"{work}/model.py:predict", models_folder=models_folder)
    assert second.digest != first.digest
    assert requirements.read(second.reference, second.format).packages[0] == "numpy==2.1"
