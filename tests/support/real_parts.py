"""How a real part that a test needs is asked for, and how its absence is told."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

BASE_IMAGE = "python:3.11-slim"
"""What the tests' images are made of; an engine has to have it, since it may reach no registry."""


def require(part: str, reason: str) -> NoReturn:
    """Skip for want of a real part, or fail where STACKKIT_TEST_REQUIRE says that it has to be there."""
    if part in os.environ.get("STACKKIT_TEST_REQUIRE", "").replace(" ", "").split(","):
        pytest.fail(f"STACKKIT_TEST_REQUIRE names {part}: {reason}")
    pytest.skip(reason)
