"""The moments within a deploy at which something happens to it. Imported by both sides, each in its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def broken(start: Callable[..., Any], moment: str, pipeline: str) -> Callable[..., Any]:
    """``start``, the act that makes the server's process, with what happens at ``moment`` around it.

    This process is killed ``before`` or ``after`` it, or somebody asks for the ``list`` after it; any other moment
    leaves it as it is.
    """

    def start_and_break(*arguments: Any, **options: Any) -> Any:
        if moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = start(*arguments, **options)
        if moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if moment == "list":
            listing = [sys.executable, sys.argv[0], "list", pipeline]
            subprocess.run(listing, check=True, stdout=subprocess.DEVNULL)
        return result

    return start_and_break
