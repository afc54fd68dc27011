"""Models, a local deployer, and processes to kill."""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from killing import models_in

from stackkit import Client
from stackkit.model_deployers import BaseModelDeployer
from stackkit.stack import ComponentType

_SUMMARY = "summary"

# what the killed processes import. By the names of installed modules: the server that forks them has the path of a
# fresh interpreter, on which the tests' own are not, and it says nothing of a module that it does not find
_PRELOADED = ["psutil", "psycopg", "pymysql", "stackkit.local.deployer", "stackkit.store.database", "unittest.mock"]


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that begin with everything imported, so that a hundred of them cost little."""
    context = multiprocessing.get_context("forkserver")
    assert all(importlib.util.find_spec(name) for name in _PRELOADED)
    context.set_forkserver_preload(_PRELOADED)
    return context


@pytest.fixture
def deployer(client: Client) -> Iterator[BaseModelDeployer]:
    client.register_component(ComponentType.MODEL_DEPLOYER, "local", "local", {})
    yield client.model_deployer("local")
    for service in list(client.servers.find(refresh=False)):
        service.delete(timeout=60)


@pytest.fixture
def models(tmp_path: Path) -> dict[str, str]:
    """The URIs of two models by name."""
    return models_in(tmp_path)


@pytest.fixture
def summary(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to what pytest prints at the end; a worker of xdist has no terminal of its own."""
    return lambda line: record_property(_SUMMARY, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == _SUMMARY:
                terminalreporter.write_line(str(line))
