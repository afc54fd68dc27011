"""The model in the folder MODEL, as a LitServe server that batches: ``litserve_server.py PORT``."""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import mlflow
import pandas as pd


class Predictor(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = mlflow.pyfunc.load_model(os.environ["MODEL"])

    def decode_request(self, request) -> pd.DataFrame:  # type: ignore[no-untyped-def]  # LitServe reads annotations
        return pd.DataFrame(**request["dataframe_split"])

    def batch(self, inputs: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(inputs)

    def predict(self, rows: pd.DataFrame) -> Any:
        return self.model.predict(rows)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"predictions": [int(output)]}


if __name__ == "__main__":
    api = Predictor(max_batch_size=64, batch_timeout=0.001, api_path="/invocations")
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
