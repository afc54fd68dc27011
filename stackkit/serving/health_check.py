"""An image's health check, ``python -P -m stackkit.serving.health_check``: 0 when the server beside it is ready.

It finds the server by the variables that say so to both. Standard library only.
"""

from __future__ import annotations

import os
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from . import container

_TIMEOUT = 4.0
_EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def main(environment: Mapping[str, str]) -> int:
    try:
        connection = _connect(container.defaults(environment))
        connection.request("GET", "/ping")
        response = connection.getresponse()
    except (OSError, HTTPException, ValueError) as error:
        print(f"it does not answer: {error}")  # noqa: T201 - the engine shows what a health check prints
        return 1
    print(f"it answers {response.status} {response.reason}")  # noqa: T201
    return 0 if response.status == 200 else 1


def _connect(options: Mapping[str, str]) -> HTTPConnection:
    host, port = _EVERY_ADDRESS.get(options["host"], options["host"]), int(options["port"])
    if not options.get("certfile"):
        return HTTPConnection(host, port, timeout=_TIMEOUT)
    context = ssl.create_default_context()
    # the certificate is for the name that clients use, and this is the same container
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)


if __name__ == "__main__":
    sys.exit(main(os.environ))
