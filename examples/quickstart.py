"""Train a model, serve it on this machine, ask it, find it again, and clean up.

python examples/quickstart.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
import requests
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stackkit.model_deployers import LocalModelDeployer


def stackkit(*arguments: str) -> None:
    """Run the command line, as a person would."""
    print(f"\n$ stackkit {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "stackkit", *arguments], check=True)


def main(folder: Path) -> None:
    # Leave the home of whoever runs this alone: everything below happens in a temporary one.
    os.environ["STACKKIT_HOME"] = str(folder / "home")

    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    train, test, train_target, test_target = train_test_split(data, target, random_state=0)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, train_target)
    path = folder / "model.joblib"
    joblib.dump(model, path)
    print(f"trained on {len(train)} patients; accuracy on {len(test)} others: {model.score(test, test_target):.3f}")

    stackkit("model-deployer", "register", "local", "--flavor=local")

    deployer = LocalModelDeployer.get_active_model_deployer()
    deployer.deploy_model(
        pipeline_name="quickstart", pipeline_step_name="deploy", model_name="breast-cancer", model_uri=str(path)
    )

    # Tomorrow, in another process: find it again.
    service = deployer.find_model_server(pipeline_name="quickstart", model_name="breast-cancer")[0]
    print(f"\n{service.config['model_name']} is served at {service.prediction_url}")

    body = {"dataframe_split": test.head(5).to_dict(orient="split")}
    answer = requests.post(service.prediction_url, json=body, timeout=10)
    answer.raise_for_status()
    print("predicted over HTTP:", answer.json()["predictions"])
    print("the truth:          ", test_target.head(5).tolist())
    assert answer.json()["predictions"] == model.predict(test.head(5)).tolist()

    stackkit("model-deployer", "models", "list")
    stackkit("model-deployer", "models", "stop", "breast-cancer")
    stackkit("model-deployer", "models", "list")
    stackkit("model-deployer", "models", "delete", "breast-cancer", "--yes")
    assert not deployer.find_model_server()
    print("\nDone: nothing is left running.")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="stackkit-quickstart-") as temporary:
        main(Path(temporary))
