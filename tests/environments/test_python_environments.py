"""Environments that are really built, from wheels made here: once, by whoever comes first, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import disks
import pytest

from stackkit.environments.python_environments import building, managers
from stackkit.environments.python_environments.building import BuiltEnvironment
from stackkit.environments.python_environments.installing import install_environment
from stackkit.environments.python_environments.specification import EnvironmentSpec, EnvManager, specify
from stackkit.environments.requirements import ModelRequirements, read
from stackkit.errors import DeploymentTimeoutError, ModelError

AsksFor = Callable[..., Path]


def silent(text: str) -> None:
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "environments"


@pytest.fixture
def spec(tmp_path: Path, asks_for: AsksFor) -> Callable[..., EnvironmentSpec]:
    """What a model with these requirements asks for."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.joblib").write_text("weights")

    def make(*lines: str, manager: EnvManager = EnvManager.UV) -> EnvironmentSpec:
        asks_for(model, *lines)
        return specify(read(str(model / "model.joblib"), "joblib"), manager)

    return make


def run(built: BuiltEnvironment, code: str) -> str:
    command = [built.python, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=install_environment()).stdout.strip()


@pytest.mark.parametrize("manager", [EnvManager.UV, EnvManager.VIRTUALENV])
def test_it_holds_what_was_asked_for_and_the_model_server(
    spec: Callable[..., EnvironmentSpec], folder: Path, manager: EnvManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_QUIET", "2")  # as a user may have set it: progress is shown all the same
    monkeypatch.setenv("PIP_TARGET", str(folder / "elsewhere"))
    told: list[str] = []
    built = building.ensure(spec("answers==1.0", manager=manager), folder, progress=told.append)
    assert run(built, "import answers; print(answers.ANSWER)") == "1.0"
    serving = run(built, "import stackkit.serving; print(stackkit.serving.__file__)")
    assert Path(serving).is_relative_to(built.folder)
    assert run(built, "import importlib.util; print(importlib.util.find_spec('stackkit.settings'))") == "None"
    assert told[0] == f"building the model's environment with {manager}"
    assert any("Installed" in text or "Installing" in text for text in told)


def test_what_is_there_is_not_built_again(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    first = building.ensure(spec("answers==1.0"), folder, progress=silent)
    told: list[str] = []
    again = building.ensure(spec("answers==1.0"), folder, progress=told.append)
    assert (again, told) == (first, [])


def test_models_that_agree_share_one(spec: Callable[..., EnvironmentSpec]) -> None:
    name = spec("answers==1.0", "numpy").name
    assert spec("numpy", "answers==1.0").name == name
    assert spec("numpy", "answers==2.0").name != name
    assert spec("numpy", "answers==1.0", manager=EnvManager.VIRTUALENV).name != name


def test_the_contents_of_a_wheel_of_the_models_own_count(spec: Callable[..., EnvironmentSpec], tmp_path: Path) -> None:
    wheel = tmp_path / "model" / "own-1.0-py3-none-any.whl"
    wheel.write_bytes(b"one")
    one = spec("./own-1.0-py3-none-any.whl").name
    wheel.write_bytes(b"two")
    assert spec("./own-1.0-py3-none-any.whl").name != one


def test_a_model_that_brings_the_same_wheels_along_shares_it(tmp_path: Path) -> None:
    """As the next training of a model does, which is kept in another folder."""

    def name(folder: str, wheel: bytes, other: bytes = b"") -> str:
        wheels = tmp_path / folder / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        (wheels / "own-1.0-py3-none-any.whl").write_bytes(wheel)
        (wheels / "other-1.0-py3-none-any.whl").write_bytes(other)
        (wheels / "notes.txt").write_text(folder)
        (tmp_path / folder / "requirements.txt").write_text("./wheels/own-1.0-py3-none-any.whl\n-f wheels\nother\n")
        (tmp_path / folder / "model.joblib").write_text(folder)
        return specify(read(str(tmp_path / folder / "model.joblib"), "joblib"), EnvManager.UV).name

    first = name("first", b"one")
    assert name("second training", b"one") == first
    assert name("third", b"two") != first
    assert name("fourth", b"one", b"two") != first
    assert name("first", b"one", b"two") != first, "what lies there may be another by now"


@pytest.mark.parametrize("manager", [EnvManager.UV, EnvManager.VIRTUALENV])
def test_a_folder_may_have_a_blank_in_its_name(
    tmp_path: Path, manager: EnvManager, asks_for: AsksFor, wheels: tuple[str, ...]
) -> None:
    model, (_, links) = tmp_path / "my model", wheels
    (model / "my wheels").mkdir(parents=True)
    for path in Path(links.removeprefix("--find-links ")).glob("answers-*"):
        shutil.copy(path, model / "my wheels" / path.name)
    shutil.copy(model / "my wheels" / "answers-1.0-py3-none-any.whl", model)
    (model / "model.joblib").write_text("weights")
    asks_for(model, "-f 'my wheels'", "./answers-1.0-py3-none-any.whl ; python_version > '3'")
    spec = specify(read(str(model / "model.joblib"), "joblib"), manager)
    built = building.ensure(spec, tmp_path / "my environments", progress=silent)
    assert run(built, "import answers; print(answers.ANSWER)") == "1.0"
    (model / "requirements.txt").write_text(f"--no-index\n{links}\n-f 'my wheels'\nanswers==2.0\n")
    spec = specify(read(str(model / "model.joblib"), "joblib"), manager)
    built = building.ensure(spec, tmp_path / "my environments", progress=silent)
    assert run(built, "import answers; print(answers.ANSWER)") == "2.0"


@pytest.mark.parametrize("option", [[], ["--require-hashes"]], ids=["told by a hash", "told by the option"])
@pytest.mark.parametrize("manager", [EnvManager.UV, EnvManager.VIRTUALENV])
def test_a_model_may_pin_hashes(
    spec: Callable[..., EnvironmentSpec],
    folder: Path,
    manager: EnvManager,
    option: list[str],
    wheels: tuple[str, ...],
) -> None:
    wheel = Path(wheels[1].removeprefix("--find-links ")) / "answers-1.0-py3-none-any.whl"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    wrong = f"answers==1.0 --hash=sha256:{'0' * 64}"
    pinned = spec(*option, f"{wrong} \\\n    --hash=sha256:{digest}", manager=manager)
    built = building.ensure(pinned, folder, progress=silent)
    assert run(built, "import answers; print(answers.ANSWER)") == "1.0"
    with pytest.raises(ModelError, match=r"(?i)hash"):
        building.ensure(spec(*option, wrong, manager=manager), folder, progress=silent)


def test_two_at_once_build_it_once(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    wanted = spec("answers==1.0")
    told: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        ways = [pool.submit(building.ensure, wanted, folder, progress=told.append) for _ in range(4)]
    assert len({way.result().python for way in ways}) == 1
    assert len([text for text in told if text.startswith("building")]) == 1
    assert "waiting for another process that builds the model's environment" in told


@pytest.mark.parametrize("manager", [EnvManager.UV, EnvManager.VIRTUALENV])
def test_a_failing_install_says_why_and_leaves_nothing(
    spec: Callable[..., EnvironmentSpec], folder: Path, manager: EnvManager
) -> None:
    with pytest.raises(ModelError, match=rf"built with {manager}: .*answers==9\.9") as raised:
        building.ensure(spec("answers==9.9", manager=manager), folder, progress=silent)
    assert "\n" not in raised.value.message
    assert "--env-manager local" in str(raised.value.hint)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("manager", [EnvManager.UV, EnvManager.VIRTUALENV])
def test_a_full_disk_is_told_and_leaves_nothing(
    spec: Callable[..., EnvironmentSpec], folder: Path, manager: EnvManager, requires: Callable[[str, str], None]
) -> None:
    folder.mkdir()
    if reason := disks.can_mount(folder):
        requires("mount", f"no file system can be mounted here: {reason}")
    code = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from stackkit.environments.python_environments import building
        from stackkit.environments.python_environments.specification import EnvironmentSpec
        from stackkit.errors import ModelError
        try:
            building.ensure(EnvironmentSpec(**eval(sys.stdin.read())), Path({str(folder)!r}), progress=lambda _: None)
        except ModelError as error:
            print(error.hint)
        print(list(Path({str(folder)!r}).iterdir()))
    """)
    values = {**spec("answers==1.0", manager=manager).__dict__, "manager": manager.value}
    small = 'mount -t tmpfs -o size=64k stackkit-test "$1"; shift; exec "$@"'
    command = [*disks.NAMESPACE, "sh", "-ec", small, "sh", str(folder), sys.executable, "-P", "-c", code]
    done = subprocess.run(command, input=repr(values), capture_output=True, text=True, check=True)
    hint, left = done.stdout.splitlines()
    assert hint.startswith(f"A disk is full: make room in {folder} and ")
    assert left == "[]"


def test_what_installs_and_cannot_run_the_server_is_no_environment(
    spec: Callable[..., EnvironmentSpec], folder: Path, tmp_path: Path, wheels: tuple[str, ...]
) -> None:
    from local_wheels import write_wheel

    write_wheel(tmp_path / "model", "orjson", "99.0", {"orjson.py": "raise ImportError('too old for this')"})
    with pytest.raises(ModelError, match="the model server cannot be run in it: ImportError: too old for this"):
        building.ensure(spec("./orjson-99.0-py3-none-any.whl"), folder, progress=silent)
    assert list(folder.iterdir()) == []


def test_an_install_that_takes_too_long_is_ended(
    spec: Callable[..., EnvironmentSpec], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    stuck = f"print('Collecting it', flush=True); open({str(tmp_path / 'pipe')!r}).read()"
    monkeypatch.setattr(building, "commands", lambda *_: [[sys.executable, "-S", "-c", stuck]])
    with pytest.raises(DeploymentTimeoutError, match="not built in time; it was still at: "):
        building.ensure(spec("answers==1.0"), folder, progress=silent, deadline=time.monotonic() + 0.5)
    assert list(folder.iterdir()) == []
    with pytest.raises(OSError, match="No such device"):  # nobody reads it any more
        os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK)


def test_an_install_that_is_interrupted_leaves_nothing(
    spec: Callable[..., EnvironmentSpec], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    stuck = f"print('Collecting it', flush=True); open({str(tmp_path / 'pipe')!r}).read()"
    monkeypatch.setattr(building, "commands", lambda *_: [[sys.executable, "-S", "-c", stuck]])

    def interrupt(text: str) -> None:
        if text == "Collecting it":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        building.ensure(spec("answers==1.0"), folder, progress=interrupt)
    assert list(folder.iterdir()) == []


def test_what_a_killed_builder_leaves_is_awaited_and_built_anew(
    spec: Callable[..., EnvironmentSpec], folder: Path, tmp_path: Path
) -> None:
    wanted = spec("answers==1.0")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # an installer that writes, and then goes on until somebody writes to the pipe
    installer = f"open('half', 'w').close(); print('Collecting', flush=True); open({str(pipe)!r}).read()"
    code = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from stackkit.environments.python_environments import building
        from stackkit.environments.python_environments.specification import EnvironmentSpec
        building.commands = lambda *_: [[sys.executable, "-c", {installer!r}]]
        values = eval(sys.stdin.read())
        building.ensure(EnvironmentSpec(**values), Path({str(folder)!r}), progress=lambda text: print(text, flush=True))
    """)
    values = {**wanted.__dict__, "manager": wanted.manager.value}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as builder:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write(repr(values))
        builder.stdin.close()
        assert any("Collecting" in line for line in builder.stdout)
        builder.send_signal(signal.SIGKILL)
    half = folder / wanted.name / "half"
    assert half.exists()
    assert BuiltEnvironment.read(half.parent) is None
    with pytest.raises(DeploymentTimeoutError, match="another process"):
        building.ensure(wanted, folder, progress=silent, deadline=time.monotonic())  # the installer still writes
    pipe.write_text("")
    built = building.ensure(wanted, folder, progress=silent)
    assert not half.exists()
    assert run(built, "import answers; print(answers.ANSWER)") == "1.0"


def test_one_whose_python_is_gone_is_built_anew(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    built = building.ensure(spec("answers==1.0"), folder, progress=silent, user="one")
    Path(built.python).unlink()
    assert building.find_all(folder) == []
    again = building.ensure(spec("answers==1.0"), folder, progress=silent)
    assert run(again, "import answers; print(answers.ANSWER)") == "1.0"
    assert building.remove_unused(folder, "two", lambda name: False) == [], "the first one needs it still"


def test_what_is_removed_and_what_stays(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    used = building.ensure(spec("answers==1.0"), folder, progress=silent, user="one")
    theirs = building.ensure(spec("answers==2.0"), folder, progress=silent, user="two")
    held = building.ensure(spec("answers"), folder, progress=silent)
    unused = building.ensure(spec("answers>1"), folder, progress=silent, user="one")
    (folder / "remains").mkdir()
    (folder / "remains" / "lock").touch()
    (folder / "remains" / "half").touch()
    (folder / "foreign").mkdir()
    descriptor = building.hold(held)
    removed = building.remove_unused(folder, "one", lambda name: name == used.name)
    assert set(removed) == {unused.name, "remains"}
    assert {path.name for path in folder.iterdir()} == {used.name, theirs.name, held.name, "foreign"}
    os.close(descriptor)
    assert building.remove_unused(folder, "two", lambda name: name == used.name) == sorted([theirs.name, held.name])
    assert [each.name for each in building.find_all(folder)] == [used.name]
    with pytest.raises(ModelError, match="removed just now"):
        building.hold(unused)


def test_a_held_one_is_held_by_the_program_that_takes_the_place(
    spec: Callable[..., EnvironmentSpec], folder: Path
) -> None:
    built = building.ensure(spec("answers==1.0"), folder, progress=silent)
    descriptor = building.hold(built)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)) as process:
        os.close(descriptor)
        assert building.remove_unused(folder, "me", lambda name: False) == []
        process.communicate(b"\n")
    assert building.remove_unused(folder, "me", lambda name: False) == [built.name]


def test_what_it_is_made_of_can_be_read(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    built = building.ensure(spec("answers==1.0"), folder, progress=silent)
    (found,) = building.find_all(folder)
    assert found == built
    assert found.made_of["packages"][0] == "answers==1.0"
    assert "httptools" in " ".join(found.made_of["packages"])
    assert (built.folder.stat().st_mode & 0o777, building.size(built) > 0) == (0o700, True)


def test_a_password_for_an_index_is_not_told(spec: Callable[..., EnvironmentSpec], folder: Path) -> None:
    asked = spec("--extra-index-url https://ann:hunter2@example.org/simple", "answers==1.0")
    built = building.ensure(asked, folder, progress=silent)
    assert "--extra-index-url https://example.org/simple" in built.made_of["options"]
    assert "hunter2" not in str(built.made_of)
    assert spec("--extra-index-url https://ann:other@example.org/simple", "answers==1.0").name == built.name


def test_settings_of_proxies_certificates_and_installers_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = ("HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
    for name in (*passed, "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "STACKKIT_SECRET_KEY"):
        monkeypatch.setenv(name, "x")
    environment = install_environment()
    assert all(environment[name] == "x" for name in passed)
    assert not {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "STACKKIT_SECRET_KEY"} & environment.keys()


@pytest.mark.parametrize(
    ("asked", "manager", "message"),
    [
        ({"source": None}, EnvManager.UV, "says nothing of what it needs"),
        ({"python": "3.9.18"}, EnvManager.UV, "asks for Python 3.9, and the model server needs 3.11 or later"),
        ({"conda_packages": ("libgomp",)}, EnvManager.UV, "what only conda installs: libgomp"),
    ],
)
def test_what_no_environment_can_be_made_of(asked: dict[str, object], manager: EnvManager, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        specify(ModelRequirements(**{"source": Path("requirements.txt"), **asked}), manager)  # type: ignore[arg-type]


def test_a_python_that_is_not_here(tmp_path: Path) -> None:
    asked = ModelRequirements(python="3.99", source=tmp_path / "requirements.txt")
    spec = specify(asked, EnvManager.VIRTUALENV)
    with pytest.raises(ModelError, match=r"no Python 3\.99 on this machine") as raised:
        managers.commands(spec, tmp_path, tmp_path / "env")
    assert "--env-manager uv" in str(raised.value.hint)


def test_condas_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As recorded: no conda runs here."""
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}/bin/{name}")
    text = "dependencies: [python=3.11, libgomp]\n"
    (tmp_path / "conda.yaml").write_text(text)
    asked = ModelRequirements(packages=("numpy==2.0",), conda=tmp_path / "conda.yaml", source=tmp_path / "conda.yaml")
    folder, environment = tmp_path / "built", tmp_path / "built" / "env"
    folder.mkdir()
    create, install = managers.commands(specify(asked, EnvManager.CONDA), folder, environment)
    assert create == [
        "/opt/conda/bin/conda", "env", "create", "--quiet", "--prefix", str(environment), "--file",
        str(folder / "conda.yaml"),
    ]  # fmt: skip
    assert (folder / "conda.yaml").read_text() == text
    assert install[:4] == [str(environment / "bin" / "python"), "-m", "pip", "install"]
    assert install[-4:] == [
        "--constraint",
        str(folder / "constraints.txt"),
        "--requirement",
        str(folder / "requirements.txt"),
    ]
    assert "httptools" in (folder / "requirements.txt").read_text()


def test_conda_for_a_model_without_a_conda_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}/bin/{name}")
    asked = ModelRequirements(python="3.12.1", packages=("numpy==2.0",), source=tmp_path / "requirements.txt")
    managers.commands(specify(asked, EnvManager.CONDA), tmp_path, tmp_path / "env")
    assert json.loads((tmp_path / "conda.yaml").read_text())["dependencies"] == ["python=3.12", "pip"]


@pytest.mark.parametrize(
    ("manager", "message", "hint"),
    [(EnvManager.CONDA, "no conda on the PATH", "uv"), (EnvManager.UV, "uv is not installed", "pip install")],
)
def test_a_manager_that_is_not_here(
    manager: EnvManager, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(managers, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    assert not managers.has_manager(manager)
    with pytest.raises(ModelError, match=message) as raised:
        managers.find_manager(manager)
    assert hint in str(raised.value.hint)
