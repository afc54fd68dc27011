"""How long ``stackkit predict`` takes for a file, and how much memory, by the number of its rows.

    python benchmarks/predict.py --sizes 100000 10000000

Makes a logistic regression with four columns, and CSV files with that many rows, and writes predictions as CSV: the
whole command, from start to exit. Checks that there is a prediction for each row.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from measuring import print_table
from sklearn.linear_model import LogisticRegression

COLUMNS = list("abcd")
BLOCK = 100_000
"""Rows that are made once, and written as often as it takes."""
WATCH = """
import json, os, resource, sys, time
begun = time.perf_counter()
status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)[1])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
"""
"""Runs a command in between: what a process has for its peak begins with the memory of the one that started it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 10_000_000], help="rows, in whole 100,000s")
    sizes = parser.parse_args().sizes
    if any(size % BLOCK or size < BLOCK for size in sizes):
        parser.error(f"sizes are multiples of {BLOCK}")
    with tempfile.TemporaryDirectory(prefix="stackkit-benchmark-") as scratch:
        folder = Path(scratch)
        block = pd.DataFrame(np.random.default_rng(0).normal(size=(BLOCK, len(COLUMNS))).round(6), columns=COLUMNS)
        joblib.dump(LogisticRegression().fit(block, block.sum(axis=1) > 0), folder / "model.joblib")
        print_table(
            ("rows", "input, MiB", "seconds", "CPU seconds", "rows a second", "peak memory, MiB"),
            [measure(folder, block, size) for size in sizes],
        )


def measure(folder: Path, block: pd.DataFrame, size: int) -> list[str]:
    """Predict once for a file of ``size`` rows; a row of the table."""
    source, target = folder / "in.csv", folder / "out.csv"
    lines = block.to_csv(index=False, header=False).encode()
    with source.open("wb") as file:
        file.write(f"{','.join(COLUMNS)}\n".encode())
        for _ in range(size // BLOCK):
            file.write(lines)
    command = [sys.executable, "-P", "-m", "stackkit", "predict", "model.joblib", "-i", source.name, "-o", target.name]
    environment = {**os.environ, "STACKKIT_HOME": str(folder / "home")}
    watched = [sys.executable, "-S", "-c", WATCH, *command]
    ended = subprocess.run(watched, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True)
    status, seconds, processor, memory = json.loads(ended.stdout)
    if status != 0:
        raise SystemExit(f"stackkit predict ended with {status}")
    with target.open("rb") as file:
        written = sum(1 for _ in file) - 1
    if written != size:
        raise SystemExit(f"{written} predictions for {size} rows")
    megabytes = source.stat().st_size / 2**20
    figures = (f"{size:,}", f"{megabytes:,.0f}", f"{seconds:.1f}", f"{processor:.1f}", f"{size / seconds:,.0f}")
    return [*figures, f"{memory:.0f}"]


if __name__ == "__main__":
    main()
