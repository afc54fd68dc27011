"""The model in the folder MODEL, as a BentoML service that batches."""

from __future__ import annotations

import os

import bentoml
import mlflow
import numpy as np
import pandas as pd


@bentoml.service(workers=1)
class Predictor:
    def __init__(self) -> None:
        self.model = mlflow.pyfunc.load_model(os.environ["MODEL"])

    @bentoml.api(batchable=True, max_batch_size=64, route="/invocations")
    def predict(self, rows: np.ndarray) -> np.ndarray:  # a frame is not batched: it fails on its shape
        return self.model.predict(pd.DataFrame(rows, columns=["a", "b", "c", "d"]))
