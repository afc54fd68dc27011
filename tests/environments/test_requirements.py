"""What a model asks for, as its files say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stackkit.environments.requirements import ModelRequirements, included, read
from stackkit.errors import ModelError

MLMODEL = """\
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    python_version: 3.11.7
"""
PYTHON_ENV = """\
python: 3.12.1
build_dependencies:
- pip==26.3
- setuptools==80.0
- wheel
dependencies:
- -r requirements.txt
"""
CONDA = """\
channels: [conda-forge]
dependencies:
- python=3.12.1
- pip<=26.3
- pip:
  - mlflow==3.17.2
  - scikit-learn==1.9.1
name: mlflow-env
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def read_pip(folder: Path, text: str) -> ModelRequirements:
    write(folder, requirements__txt=text, model__joblib="weights")
    return read(str(folder / "model.joblib"), "joblib")


def test_an_mlflow_folder_with_all_its_files(tmp_path: Path) -> None:
    write(tmp_path, MLmodel=MLMODEL, python_env__yaml=PYTHON_ENV, conda__yaml=CONDA)
    write(tmp_path, requirements__txt="mlflow==3.17.2\nscikit-learn==1.9.1\n")
    found = read(str(tmp_path), "mlflow")
    assert found == ModelRequirements(
        python="3.12.1",
        packages=("mlflow==3.17.2", "scikit-learn==1.9.1"),
        build_packages=("setuptools==80.0", "wheel"),
        conda=tmp_path / "conda.yaml",
        source=tmp_path / "python_env.yaml",
    )
    assert found.python_minor == "3.12"


def test_an_mlflow_folder_with_a_conda_file_alone(tmp_path: Path) -> None:
    write(tmp_path, MLmodel=MLMODEL, conda__yaml=CONDA + "")
    found = read(str(tmp_path), "mlflow")
    assert (found.python, found.packages) == ("3.12.1", ("mlflow==3.17.2", "scikit-learn==1.9.1"))
    assert found.conda_packages == ()


@pytest.mark.parametrize(
    ("entry", "python"),
    [
        ("python=3.9", "3.9"),
        ("python==3.9.18", "3.9.18"),
        ("python=3.9.*", "3.9"),
        ("python>=3.9", None),
        ("conda-forge::python=3.9", "3.9"),
    ],
    ids=["minor", "exact", "any patch level", "a range", "of a channel"],
)
def test_what_only_conda_can_install_is_told_apart(tmp_path: Path, entry: str, python: str | None) -> None:
    text = f"dependencies:\n- '{entry}'\n- scikit-learn=1.0\n- libgomp\n- conda-forge::pip\n"
    write(tmp_path, MLmodel="flavors: {python_function: {env: environment.yaml}}", environment__yaml=text)
    found = read(str(tmp_path), "mlflow")
    assert (found.python, found.conda_packages) == (python, ("scikit-learn=1.0", "libgomp"))


def test_an_mlflow_folder_with_requirements_alone_runs_with_the_python_it_was_saved_with(tmp_path: Path) -> None:
    write(tmp_path, MLmodel=MLMODEL, requirements__txt="numpy\n")
    assert read(str(tmp_path), "mlflow") == ModelRequirements(
        python="3.11.7", packages=("numpy",), source=tmp_path / "requirements.txt"
    )


def test_the_python_of_a_release_candidate(tmp_path: Path) -> None:
    write(tmp_path, MLmodel=MLMODEL, python_env__yaml="python: 3.14.0rc2\n")
    assert read(str(tmp_path), "mlflow").python_minor == "3.14"


def test_an_mlflow_folder_that_asks_for_nothing(tmp_path: Path) -> None:
    write(tmp_path, MLmodel="flavors: {}\n")
    assert read(str(tmp_path), "mlflow") == ModelRequirements()


@pytest.mark.parametrize("reference", ["model.joblib", "code.py:predict", "."])
def test_requirements_in_the_folder_of_any_other_model(tmp_path: Path, reference: str) -> None:
    write(tmp_path, model__joblib="weights", code__py="", requirements__txt="numpy==2.0\n")
    assert read(f"{tmp_path}/{reference}", "joblib").packages == ("numpy==2.0",)


@pytest.mark.parametrize("reference", ["json:loads", "/nowhere/model.joblib"])
def test_what_brings_no_requirements_asks_for_nothing(reference: str) -> None:
    assert read(reference, "python") == ModelRequirements()


def test_lines_are_read_as_pip_reads_them(tmp_path: Path) -> None:
    found = read_pip(
        tmp_path,
        "# what it needs\n\nnumpy==2.0  # the old one\nscipy \\\n  ==1.13\nurl @ https://example.org/#egg=url\n"
        "numpy==2.0\n--extra-index-url https://example.org/simple\n--pre\n",
    )
    assert found.packages == ("numpy==2.0", "scipy   ==1.13", "url @ https://example.org/#egg=url")
    assert found.options == ("--extra-index-url https://example.org/simple", "--pre")


def test_a_comment_is_not_continued(tmp_path: Path) -> None:
    found = read_pip(tmp_path, "# as in C:\\models\\\nnumpy\nscipy \\\n  # the newest\n  ==1.13\\\n")
    assert found.packages == ("numpy", "scipy", "==1.13")  # as pip has it


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("-i https://example.org/simple", ("--index-url https://example.org/simple",)),
        ("--index-url=https://example.org", ("--index-url https://example.org",)),
        (
            "-i https://example.org --trusted-host example.org --pre",
            ("--index-url https://example.org", "--trusted-host example.org", "--pre"),
        ),
    ],
    ids=["short", "with a sign", "several on one line"],
)
def test_each_option_is_a_line_of_its_own(tmp_path: Path, line: str, options: tuple[str, ...]) -> None:
    assert read_pip(tmp_path, f"{line}\n").options == options


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_that_say_how_they_are_encoded(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "model.joblib").write_text("weights")
    (tmp_path / "requirements.txt").write_bytes("numpy==2.0\r\nscipy  # größer\r\n".encode(encoding))
    assert read(str(tmp_path / "model.joblib"), "joblib").packages == ("numpy==2.0", "scipy")


@pytest.mark.parametrize("line", ["-r base.txt", "-rbase.txt", "--requirement base.txt", "--requirement=base.txt"])
def test_files_that_requirements_include(tmp_path: Path, line: str) -> None:
    write(tmp_path, base__txt="scipy\n-r base.txt\n", limits__txt="numpy<2\n")
    found = read_pip(tmp_path, f"{line}\n--constraint=limits.txt\nnumpy\n")
    assert (found.packages, found.constraints) == (("scipy", "numpy"), ("numpy<2",))


def test_what_a_file_includes_is_looked_for_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sub" / "wheels").mkdir(parents=True)
    (tmp_path / "own-1.0-py3-none-any.whl").touch()
    write(tmp_path, limits__txt="numpy<2\n")
    write(tmp_path / "sub", base__txt="-r more.txt\n-c ../limits.txt\n-f wheels\n./own-1.0-py3-none-any.whl\n")
    write(tmp_path / "sub", more__txt="scipy\n-r ../sub/base.txt\n")
    found = read_pip(tmp_path, "-r sub/base.txt\n")
    assert found.packages == ("scipy", f"{tmp_path}/own-1.0-py3-none-any.whl")
    assert found.constraints == ("numpy<2",)
    assert found.options == (f"--find-links {tmp_path}/sub/wheels",)


def test_a_file_may_constrain_and_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path, base__txt="numpy<2\n")
    found = read_pip(tmp_path, "-c base.txt\n-r base.txt\n")
    assert (found.packages, found.constraints) == (("numpy<2",), ("numpy<2",))


def test_a_wheel_of_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "own-1.0-py3-none-any.whl").write_bytes(b"")
    found = read_pip(tmp_path, "./own-1.0-py3-none-any.whl\n--find-links .\n")
    assert found.packages == (f"{tmp_path}/own-1.0-py3-none-any.whl",)
    assert found.options == (f"--find-links {tmp_path}",)


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("./my wheels/own-1.0-py3-none-any.whl", ""),
        ("./my wheels/own-1.0-py3-none-any.whl[extra] ; python_version > '3'", "[extra] ; python_version > '3'"),
        ("my/../own-1.0.tar.gz --hash=sha256:0", " --hash=sha256:0"),
        ("own-1.0.tar.gz; python_version > '3'", "; python_version > '3'"),
    ],
)
def test_how_a_file_of_the_models_own_may_be_written(tmp_path: Path, line: str, rest: str) -> None:
    (tmp_path / "my wheels").mkdir()
    (tmp_path / "my").mkdir()
    (tmp_path / "my wheels" / "own-1.0-py3-none-any.whl").touch()
    (tmp_path / "own-1.0.tar.gz").touch()
    named = line.removesuffix(rest).removeprefix("./")
    assert read_pip(tmp_path, f"{line}\n").packages == (f"{tmp_path}/{named}{rest}",)


def test_the_files_that_it_takes_to_install(tmp_path: Path) -> None:
    (tmp_path / "sub" / "wheels").mkdir(parents=True)
    (tmp_path / "sub" / "wheels" / "other-1.0-py3-none-any.whl").touch()
    (tmp_path / "sub" / "wheels" / "notes.txt").touch()
    (tmp_path / "own-1.0-py3-none-any.whl").touch()
    (tmp_path / "unused-1.0-py3-none-any.whl").touch()
    write(tmp_path / "sub", base__txt="-c ../limits.txt\n-f wheels\n./own-1.0-py3-none-any.whl\n")
    write(tmp_path, limits__txt="numpy<2\n", requirements__txt="-r sub/base.txt\n--find-links /elsewhere\n")
    found = included(tmp_path / "requirements.txt")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in found) == [
        "limits.txt",
        "own-1.0-py3-none-any.whl",
        "requirements.txt",
        "sub/base.txt",
        "sub/wheels/other-1.0-py3-none-any.whl",
    ]
    write(tmp_path, requirements__txt="-r sub/base.txt\n-e .\n-r gone.txt\n")
    assert included(tmp_path / "requirements.txt") == found
    write(tmp_path, requirements__txt="-r gone.txt\n")
    assert included(tmp_path / "requirements.txt") == [tmp_path / "requirements.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-e .", "editing"),
        ("--editable=.", "editing"),
        ("-r https://ann:hunter2@example.org/base.txt", r"what https://example\.org/base\.txt says may change"),
        ("--find-links 'unfinished", "No closing quotation"),
        ("--pre numpy", "--pre numpy cannot be understood"),
        ("/elsewhere/own.whl", "lead out of its folder: /elsewhere/own.whl"),
        ("-r ../secret.txt", "lead out of its folder"),
        ("-r gone.txt", "gone.txt cannot be used: No such file"),
        ("./gone.whl", "gone.whl is no file of the model's"),
        ("../own.whl", "lead out of its folder"),
    ],
)
def test_requirements_that_cannot_be_kept(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_pip(tmp_path, text)


@pytest.mark.parametrize(
    "files",
    [
        {"python_env__yaml": "python: [3"},
        {"python_env__yaml": "- numpy"},
        {"python_env__yaml": "python: latest"},
        {"python_env__yaml": "dependencies: numpy"},
        {"conda__yaml": "dependencies: numpy"},
    ],
    ids=["no YAML", "no mapping", "no version", "no list", "no list for conda"],
)
def test_files_that_say_nothing_sensible(tmp_path: Path, files: dict[str, str]) -> None:
    write(tmp_path, MLmodel=MLMODEL, **files)
    with pytest.raises(ModelError, match="cannot be used") as raised:
        read(str(tmp_path), "mlflow")
    assert "--env-manager local" in str(raised.value)
