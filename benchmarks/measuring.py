"""What the benchmarks share: summaries of samples, and tables that can be pasted into the README."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence


def spread(samples: Sequence[float], scale: float = 1.0, digits: int = 2) -> str:
    """``min / median / max`` of samples, each multiplied by ``scale``."""
    found = (min(samples), statistics.median(samples), max(samples))
    return " / ".join(f"{value * scale:.{digits}f}" for value in found)


def wall(work: Callable[[], object]) -> float:
    """How many seconds ``work`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table; the first column is for words, the others for figures."""
    cells = [[str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(headings))]
    rule = ["-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    for row in (cells[0], rule, *cells[1:]):
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("| " + " | ".join((first, *others)) + " |")
    print(flush=True)
