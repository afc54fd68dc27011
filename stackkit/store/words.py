"""What platforms, servers and errors say, in columns that take whatever that is.

These words come from elsewhere, and are written down when something has failed: that they cannot be written must not
come on top of it, and leave a row that says otherwise.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.types import TypeDecorator, TypeEngine

_REFUSED = re.compile("[\x00\ud800-\udfff]")
"""What PostgreSQL takes in no text, and halves of characters, which no database takes."""

_MYSQL_TEXT_BYTES = 2**16 - 1
_BYTES_OF_CHARACTER = 4

_CUT = "\n[…]\n"


class Words(TypeDecorator[str]):
    """Text of ``most`` characters at most: what is longer loses its middle.

    How something failed stands at the beginning, and the end of a log at the end. A character that a database refuses
    becomes "�".
    """

    impl = Text
    cache_ok = True

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        too_long = self.most * _BYTES_OF_CHARACTER > _MYSQL_TEXT_BYTES
        return MEDIUMTEXT() if too_long and dialect.name in ("mysql", "mariadb") else Text()

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if len(value) > self.most:
            half = (self.most - len(_CUT)) // 2
            value = f"{value[:half]}{_CUT}{value[-half:]}"
        return _REFUSED.sub("\ufffd", value)
