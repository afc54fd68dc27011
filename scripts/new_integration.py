"""Make the skeleton of a new integration: a package of its own with a flavor, a deployer and its conformance test.

    python scripts/new_integration.py NAME "Display Name"

makes ``integrations/NAME/`` (package ``stackkit-NAME``, imported as ``stackkit_NAME``) and adds it to
``requirements-dev.txt``. Changes nothing when the folder is there already.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "stackkit-$name"
version = "0.1.0"
description = "The $display model deployer of stackkit."
readme = "README.md"
requires-python = ">=3.11"
license = "Apache-2.0"
dependencies = ["stackkit>=0.1.0"]

[project.entry-points."stackkit.model_deployers"]
$name = "stackkit_$name.flavor:${camel}ModelDeployerFlavor"

[tool.hatch.build.targets.wheel]
packages = ["stackkit_$name"]
""",
    "README.md": """\
# stackkit-$name

The $display model deployer of stackkit.

```bash
pip install stackkit-$name
stackkit model-deployer register my-$name --flavor=$name
```
""",
    "stackkit_$name/__init__.py": '"""The $display model deployer of stackkit."""\n',
    "stackkit_$name/py.typed": "",
    "stackkit_$name/flavor.py": '''\
"""What the registry knows of the $display flavor before its implementation is needed."""

from __future__ import annotations

from stackkit.model_deployers import ModelDeployerFlavor, ServiceConfig
from stackkit.stack import ComponentConfig


class ${camel}ModelDeployerConfig(ComponentConfig):
    """The attributes of a $display model deployer."""


class ${camel}ServiceConfig(ServiceConfig):
    """What a model server on $display can be told."""


class ${camel}ModelDeployerFlavor(ModelDeployerFlavor):
    """Serves models on $display."""

    NAME = "$name"
    SUMMARY = "Model servers on $display."
    implementation = "stackkit_$name.deployer:${camel}ModelDeployer"
    config_class = ${camel}ModelDeployerConfig
    service_config_class = ${camel}ServiceConfig
''',
    "stackkit_$name/deployer.py": '''\
"""The $display model deployer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from stackkit.model_deployers import BaseModelDeployer, Observation, Operation, PlatformIdentity, Service


class ${camel}ModelDeployer(BaseModelDeployer):
    """Serves models on $display. What each method owes is told in BaseModelDeployer and docs/flavors.md."""

    def do_identify(self) -> PlatformIdentity:
        raise NotImplementedError

    def do_start(self, operation: Operation) -> None:
        raise NotImplementedError

    def do_check(self, services: Sequence[Service]) -> Mapping[str, Observation]:
        raise NotImplementedError

    def do_stop(self, operation: Operation) -> None:
        raise NotImplementedError

    def do_delete(self, operation: Operation) -> None:
        raise NotImplementedError

    def do_logs(self, service: Service, *, follow: bool, tail: int | None) -> Iterator[str]:
        raise NotImplementedError
''',
    "tests/test_${name}_conformance.py": '''\
"""The $display deployer passes the suite."""

from __future__ import annotations

import pytest

from stackkit import Client
from stackkit.model_deployers.conformance import ModelDeployerConformance, Subject
from stackkit.stack import ComponentType


class Test${camel}(ModelDeployerConformance):
    @pytest.fixture
    def subject(self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Subject:
        monkeypatch.setenv("STACKKIT_HOME", str(tmp_path_factory.mktemp("home")))
        client = Client()
        client.register_component(ComponentType.MODEL_DEPLOYER, "$name", "$name", {})
        return Subject(client.model_deployer("$name"), model={"model_uri": "one"}, other_model={"model_uri": "two"})
''',
}


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Make the skeleton of a new integration.")
    parser.add_argument("name", help="the flavor's name: lower-case letters, digits and underscores")
    parser.add_argument("display", help='as people write it, such as "Docker"')
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", options.name):
        parser.error("the name must be lower-case letters, digits and underscores")
    folder = root / "integrations" / options.name
    if folder.exists():
        print(f"{folder} is there already.", file=sys.stderr)
        return 1
    words = {
        "name": options.name,
        "display": options.display,
        "camel": re.sub(r"[^A-Za-z0-9]", "", options.display.title() if options.display.islower() else options.display),
    }
    for path, text in FILES.items():
        target = folder / Template(path).substitute(words)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(words), encoding="utf-8")
    requirements = root / "requirements-dev.txt"
    requirements.write_text(
        f"{requirements.read_text(encoding='utf-8')}-e integrations/{options.name}\n", encoding="utf-8"
    )
    print(f"Made {folder}. Next: write stackkit_{options.name}/deployer.py until its conformance test passes.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
