"""Saves the models that are served, and times them without a server: ``models.py save|rates|csv FOLDER``.

Runs in stackkit's environment, so that what is compared uses the same libraries.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

MODELS = {
    "logistic": lambda: LogisticRegression(max_iter=1000),
    "forest": lambda: RandomForestClassifier(100, random_state=0),
}
COLUMNS = ["a", "b", "c", "d"]
CSV_ROWS = 100_000
SECONDS = 3.0


def save(folder: Path) -> None:
    """Save each model, and the CSV of one large request."""
    rows, labels = load_iris(return_X_y=True, as_frame=True)
    rows.columns = COLUMNS
    for name, make in MODELS.items():
        model = make().fit(rows, labels)
        mlflow.sklearn.save_model(
            model, folder / name, signature=infer_signature(rows, model.predict(rows)), serialization_format="pickle"
        )
    many = pd.concat([rows] * (CSV_ROWS // len(rows) + 1))[:CSV_ROWS]
    (folder / "rows.csv").write_text(many.to_csv(index=False))


def rates(folder: Path) -> dict[str, float]:
    """Predictions a second of one row through a frame, one after the other."""
    row = pd.DataFrame([[5.1, 3.5, 1.4, 0.2]], columns=COLUMNS)
    found = {}
    for name in MODELS:
        model = mlflow.sklearn.load_model(str(folder / name))
        found[name] = rate(lambda model=model: model.predict(row))
    return found


def csv(folder: Path) -> float:
    """The least of ten times, in seconds, that the CSV takes, parsed by pandas."""
    model = mlflow.sklearn.load_model(str(folder / "logistic"))
    text = (folder / "rows.csv").read_bytes()
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        model.predict(pd.read_csv(io.BytesIO(text)))
        times.append(time.perf_counter() - begun)
    return min(times)


def rate(work: Callable[[], object]) -> float:
    work()
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS:
        work()
        count += 1
    return count / (time.perf_counter() - begun)


if __name__ == "__main__":
    action, place = sys.argv[1:]
    print(json.dumps({"save": save, "rates": rates, "csv": csv}[action](Path(place))))
