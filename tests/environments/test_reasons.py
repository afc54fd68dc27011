"""The reasons in what installers really printed, shortened where it says the same again."""

from __future__ import annotations

import pytest

from stackkit.environments.python_environments.reasons import reason

UV = """\
Using Python 3.12.1 environment at: env
error: No solution found when resolving dependencies
  cause: Because there is no version of sqlalchemy==99, we can conclude that your requirements are unsatisfiable.
"""
OLDER_UV = """\
  × No solution found when resolving dependencies:
  ╰─▶ Because there is no version of sqlalchemy==99 and you require
      sqlalchemy==99, we can conclude that your requirements are unsatisfiable.
"""
UV_BUILD = """\
error: Failed to build `badpkg==1.0`
  cause: The build backend returned an error
  cause: Call to `setuptools.build_meta:__legacy__.get_requires_for_build_wheel` failed (exit status: 1)

         [stderr]
         Traceback (most recent call last):
           File "<string>", line 14, in <module>
         RuntimeError: this package needs a compiler

hint: Build failures usually indicate a problem with the package or the build environment
"""
PIP = """\
ERROR: Could not find a version that satisfies the requirement sqlalchemy==99 (from versions: 0.1.0, 0.1.1, 2.1.9)
ERROR: No matching distribution found for sqlalchemy==99
"""
PIP_CONFLICT = """\
Collecting pydantic<2
ERROR: Cannot install pydantic<2 and pydantic>2 because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested pydantic<2
    The user requested pydantic>2

To fix this you could try to:
1. loosen the range of package versions you've specified
ERROR: ResolutionImpossible: for help visit the documentation
"""
PIP_BUILD = """\
Processing ./bad/badpkg-1.0.tar.gz
  Installing build dependencies: started
  error: subprocess-exited-with-error

  × Getting requirements to build wheel did not run successfully.
  │ exit code: 1
  ╰─> [21 lines of output]
      Traceback (most recent call last):
        File "<string>", line 1, in <module>
      RuntimeError: this package needs a compiler
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: subprocess-exited-with-error
"""


UV_TOLD = (
    "No solution found when resolving dependencies: Because there is no version of sqlalchemy==99, we can conclude "
    "that your requirements are unsatisfiable."
)
PIP_TOLD = (
    "Could not find a version that satisfies the requirement sqlalchemy==99: "
    "No matching distribution found for sqlalchemy==99"
)
CONFLICT_TOLD = (
    "Cannot install pydantic<2 and pydantic>2 because these package versions have conflicting dependencies: "
    "The user requested pydantic<2; The user requested pydantic>2"
)
PIP_BUILD_TOLD = (
    "./bad/badpkg-1.0.tar.gz: Getting requirements to build wheel did not run successfully: "
    "RuntimeError: this package needs a compiler"
)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        (UV, UV_TOLD),
        (UV_BUILD, "Failed to build `badpkg==1.0`: RuntimeError: this package needs a compiler"),
        (PIP, PIP_TOLD),
        (PIP_CONFLICT, CONFLICT_TOLD),
        (PIP_BUILD, PIP_BUILD_TOLD),
        ("something\n  else went wrong\n\n", "else went wrong"),
        ("", ""),
    ],
    ids=["uv", "uv build", "pip", "pip conflict", "pip build", "anything", "nothing"],
)
def test_the_reason_in_one_line(printed: str, told: str) -> None:
    assert reason(printed.splitlines()) == told


def test_uvs_older_way_of_writing() -> None:
    told = reason(OLDER_UV.splitlines())
    assert told.startswith("No solution found when resolving dependencies: Because there is no version of")
    assert told.endswith("sqlalchemy==99, we can conclude that your requirements are unsatisfiable.")


def test_of_a_long_one_the_beginning_and_the_end() -> None:
    told = reason([f"error: begins {'x' * 2000} ends"])
    assert told.startswith("begins")
    assert told.endswith("ends")
    assert len(told) < 750
