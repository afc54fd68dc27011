"""Predictions for a file: the server's answers, in every format, whole or not at all."""

from __future__ import annotations

import gzip
import json
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LinearRegression

from stackkit.serving import formats
from stackkit.serving.app import App
from stackkit.serving.batch.errors import BatchError, ModelBrokenError
from stackkit.serving.batch.prediction import predict_file, read_params
from stackkit.serving.loaders.python_loader import PythonModel
from stackkit.serving.models import Model
from stackkit.serving.signature import DataType, Param, Signature

COMMAND = [sys.executable, "-P", "-m", "stackkit.serving.batch"]
ROWS = pd.DataFrame({"b": np.arange(25) % 7, "a": np.arange(25) / 4, "note": [f'"{n}", é\n' for n in range(25)]})

Predict = Callable[..., int]


@pytest.fixture
def predict(tmp_path: Path) -> Predict:
    """Predict for ``in.*`` into ``out.*``, four rows at a time."""

    def predict(model: Model, source: str, target: str, **settings: Any) -> int:
        defaults = {"params": None, "chunk_size": 4, "report": lambda rows, part: None}
        return predict_file(model, tmp_path / source, tmp_path / target, **{**defaults, **settings})

    return predict


@pytest.fixture
def fails(predict: Predict, tmp_path: Path) -> Callable[..., str]:
    """Predictions that fail, and leave the folder as it was; gives the message without the folder's name."""

    def fails(model: Model, source: str, target: str = "out.csv", **settings: Any) -> str:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(BatchError) as caught:
            predict(model, source, target, **settings)
        assert sorted(tmp_path.rglob("*")) == before
        return caught.value.message.replace(f"{tmp_path}/", "")

    return fails


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """2a + b from an MLflow folder whose signature says: a double, b long, the output ``score``."""
    folder = tmp_path_factory.mktemp("mlflow") / "typed"
    folder.mkdir()
    rows = ROWS[["a", "b"]]
    (folder / "model.pkl").write_bytes(pickle.dumps(LinearRegression().fit(rows, rows @ [2.0, 1.0])))
    inputs = [{"type": "double", "name": "a", "required": True}, {"type": "long", "name": "b", "required": True}]
    outputs = [{"type": "double", "name": "score", "required": True}]
    description = {
        "flavors": {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"},
            "sklearn": {"serialization_format": "pickle", "code": None},
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    return formats.load(str(folder))


def python_model(function: Callable[[Any], Any]) -> Model:
    return PythonModel("test", function)


def write(path: Path, frame: pd.DataFrame = ROWS) -> None:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif ".csv" in path.name:
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=".jsonl" in path.name)


def read(path: Path) -> list[float]:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)["score"].tolist()
    if ".csv" in path.name:
        return pd.read_csv(path)["score"].tolist()
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in content.splitlines()]
    return json.loads(content)["predictions"]


FORMATS = ["csv", "csv.gz", "json", "json.gz", "jsonl", "jsonl.gz", "parquet"]


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_format_in_and_out(predict: Predict, typed: Model, tmp_path: Path, source: str, target: str) -> None:
    write(tmp_path / f"in.{source}")
    assert predict(typed, f"in.{source}", f"out.{target}") == 25
    assert read(tmp_path / f"out.{target}") == pytest.approx((2 * ROWS.a + ROWS.b).tolist(), rel=1e-12, abs=1e-12)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([f"in.{source}", f"out.{target}"])


MEDIA_TYPES = {"csv": "text/csv", "jsonl": "application/jsonlines", "json": "application/json"}


@pytest.mark.parametrize("name", ["typed", "named.joblib", "function"])
@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
def test_the_answers_are_the_servers(
    predict: Predict,
    typed: Model,
    estimators: Path,
    serve_model: Callable[..., App],
    call: Callable[..., Any],
    tmp_path: Path,
    source: str,
    name: str,
) -> None:
    """Byte for byte where the whole file is one chunk, for the bits of a float depend on the rows beside it."""
    models: dict[str, Callable[[], Model]] = {
        "typed": lambda: typed,
        "named.joblib": lambda: formats.load(str(estimators / "named.joblib")),
        "function": lambda: python_model(lambda frame: [repr(row) for row in frame.itertuples(index=False)]),
    }
    model = models[name]()
    app = serve_model(model)
    write(tmp_path / f"in.{source}")
    sent = {**MEDIA_TYPES, "parquet": "application/vnd.apache.parquet"}[source]
    for target, accept in MEDIA_TYPES.items():
        reply = call(
            app, body=(tmp_path / f"in.{source}").read_bytes(), headers={"content-type": sent, "accept": accept}
        )
        assert reply.status == 200
        predict(model, f"in.{source}", f"out.{target}", chunk_size=1000)
        written = (tmp_path / f"out.{target}").read_bytes()
        if target == "csv":
            written = written.partition(b"\n")[2]
        assert written.strip() == reply.body.strip()
        predict(model, f"in.{source}", f"part.{target}")
        if name == "function":
            assert (tmp_path / f"part.{target}").read_bytes() == (tmp_path / f"out.{target}").read_bytes()


def test_parquet_gives_the_frame_that_a_request_gives(predict: Predict, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "date": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "count": pd.array([1, None, 3], dtype="Int64"),
            "kind": pd.Categorical(["x", "y", "x"]),
        },
        index=pd.Index([7, 8, 9], name="key"),
    )
    frame.to_parquet(tmp_path / "in.parquet")
    seen: list[pd.DataFrame] = []
    predict(python_model(lambda given: seen.append(given) or [0] * len(given)), "in.parquet", "o.csv", chunk_size=9)
    pd.testing.assert_frame_equal(seen[0], pd.read_parquet(tmp_path / "in.parquet"))


def test_it_is_called_with_so_many_rows_at_a_time(predict: Predict, tmp_path: Path) -> None:
    calls: list[int] = []
    reports: list[tuple[int, float | None]] = []
    (tmp_path / "in.csv").write_text("a\n" + "1\n" * 10)

    def model(frame: pd.DataFrame) -> list[int]:
        calls.append(len(frame))
        return [0] * len(frame)

    predict(python_model(model), "in.csv", "out.csv", report=lambda rows, part: reports.append((rows, part)))
    assert calls == [4, 4, 2]
    assert [rows for rows, _ in reports] == [4, 8, 10]
    assert reports[-1][1] == 1.0


def test_json_may_be_values_without_names(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("[[1, 2], [3, 4], [5, 6]]")
    (tmp_path / "in.jsonl").write_text("[1, 2]\n\n[3, 4]\n[5, 6]\n")
    for source in ("in.json", "in.jsonl"):
        predict(python_model(lambda rows: [sum(row) for row in rows]), source, "out.csv", chunk_size=2)
        assert (tmp_path / "out.csv").read_text() == "prediction\n3\n7\n11\n"


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        ({"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}, {"predictions": [1, 2]}),
        ({"inputs": {"a": [1, 2]}}, {"predictions": ["a"]}),
        ({"messages": ["hello"]}, ["messages"]),
    ],
    ids=["table", "columns", "chat"],
)
def test_a_json_document_may_be_a_request(predict: Predict, tmp_path: Path, body: Any, reply: Any) -> None:
    (tmp_path / "in.json").write_text(json.dumps(body))
    model = python_model(lambda data: data["a"].tolist() if isinstance(data, pd.DataFrame) else list(data))
    predict(model, "in.json", "out.json", chunk_size=1)
    assert json.loads((tmp_path / "out.json").read_text()) == reply


@pytest.mark.parametrize(
    ("predictions", "csv", "lines"),
    [
        ([1.5, None], 'prediction\n1.5\n""\n', [1.5, None]),
        (np.array([1.5, np.nan]), 'prediction\n1.5\n""\n', [1.5, None]),
        (np.array([[1, 2], [3, 4]]), "prediction_0,prediction_1\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        (np.array([[1], [2]]), "prediction\n1\n2\n", [[1], [2]]),
        (np.array(["x", "y,z"]), 'prediction\nx\n"y,z"\n', ["x", "y,z"]),
        (pd.DataFrame({"x": [1, 2], "y": [True, False]}), "x,y\n1,true\n2,false\n", None),
        (pd.Series([1, 2], name="x"), "x\n1\n2\n", [{"x": 1}, {"x": 2}]),
        ([{"x": 1, "y": 2}, {"y": 3, "x": 4}], "x,y\n1,2\n4,3\n", [{"x": 1, "y": 2}, {"y": 3, "x": 4}]),
        ({"label": np.array([0, 1]), "p": [[0.5], [1]]}, "label,p\n0,[0.5]\n1,[1]\n", None),
        (("a", "b"), "prediction\na\nb\n", ["a", "b"]),
        (np.zeros((2, 2, 1)), "prediction_0,prediction_1\n[0.0],[0.0]\n[0.0],[0.0]\n", None),
    ],
    ids=["list", "array", "matrix", "column", "text", "frame", "series", "objects", "outputs", "tuple", "cube"],
)
def test_what_a_model_may_return(
    predict: Predict, tmp_path: Path, predictions: Any, csv: str, lines: list[Any] | None
) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    model = python_model(lambda frame: predictions)
    predict(model, "in.csv", "out.csv")
    assert (tmp_path / "out.csv").read_text() == csv
    predict(model, "in.csv", "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = lines if lines is not None else found
    assert found == expected
    predict(model, "in.csv", "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == {"predictions": found}
    predict(model, "in.csv", "out.parquet")
    assert list(pd.read_parquet(tmp_path / "out.parquet").columns) == csv.partition("\n")[0].split(",")


def test_parquet_keeps_the_types(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n3\n")
    returned = pd.DataFrame({"x": np.float32([1]), "y": np.int8([2]), "z": pd.to_datetime(["2026-01-01"])})
    predict(python_model(lambda frame: returned.head(len(frame))), "in.csv", "out.parquet", chunk_size=1)
    written = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(written, pd.concat([returned] * 3, ignore_index=True))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([[1]], "in.csv: lines 2 to 3: The model returned 1 prediction for 2 rows."),
        ([3], "in.csv: lines 2 to 3: The model returned no list of predictions for 2 rows, but one answer for all."),
        ([{"x": 1}], "in.csv: lines 2 to 3: The model returned no list of predictions for 2 rows, but one answer for"),
        ([[1, [1]]], None),
        ([[[1, 2], [1]]], "in.csv: lines 2 to 3: The model's predictions do not all have the same columns."),
        ([[{"a": 1}, {"b": 1}]], "in.csv: lines 2 to 3: The model's predictions do not all have the same columns."),
        ([[1, 2], ["x", "y"]], None),
        ([[1, object()]], "in.csv: lines 2 to 3: the predictions cannot be written: a prediction of type object"),
    ],
    ids=["too few", "number", "object", "mixed", "ragged", "keys", "types", "no JSON"],
)
def test_predictions_that_cannot_be_columns(
    predict: Predict, fails: Callable[..., str], tmp_path: Path, returned: list[Any], message: str | None
) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n3\n4\n")
    model = python_model(lambda frame: returned[min(len(returned) - 1, frame["a"].iloc[0] // 3)])
    if message is None:
        predict(model, "in.csv", "out.csv", chunk_size=2)
    else:
        assert fails(model, "in.csv", chunk_size=2).startswith(message)


def test_types_that_change_are_no_parquet(fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\nx\n")
    model = python_model(lambda frame: frame["a"].tolist())
    message = fails(model, "in.csv", "out.parquet", chunk_size=1)
    assert message.startswith("in.csv: line 3: The predictions cannot be written as Parquet: ")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "a,b\n1,1\n1,1\n1,x\n", "in.csv: line 4: the value of b is not of type long: it is text that is no"),
        ("in.csv", 'n,a,b\n"x\n",1,1\n"\ny",1,2.5\n', "in.csv: line 4: the value of b is not of type long: it is"),
        ("in.csv", "a,b\n1,1\n1,2\n1,2,3\n", "in.csv: line 4: the row has 3 values, where 2 are expected."),
        ("in.csv", "a\n1\n", "in.csv: line 2: The input does not fit the model's signature: a: double"),
        ("in.csv", 'a,b\n1,"2\n', "in.csv: line 2: The body is not a CSV table"),
        ("in.csv", "a,b\n", "in.csv: There are no rows below the line of column names."),
        ("in.jsonl", '{"a": 1, "b": 1}\n\n{"a": 1, "b": null}\n', "in.jsonl: line 3: the value of b is not of type"),
        ("in.jsonl", '{"a": 1, "b": 1}\n{"a": 1,\n', "in.jsonl: line 2: it is not valid JSON: Expecting"),
        ("in.jsonl", "\n", "in.jsonl: There are no rows in the file."),
        ("in.json", '[{"a": 1, "b": 1}, {"a": 1, "b": 0.5}]', "in.json: row 2: the value of b is not of type long: it"),
        ("in.json", '{"dataframe_records": [{"a": 1, "b": 0.5}]}', "in.json: row 1: the value of b is not of type"),
        ("in.json", '[{"a": 1},', "in.json: The body is not valid JSON"),
        ("in.json", "[]", "in.json: There are no rows in the file."),
        ("in.json", "{}", "in.json: The body must have exactly one of"),
        ("in.csv.gz", "a,b\n1,2\n", "in.csv.gz cannot be read: Not a gzipped file"),
        ("in.parquet", "PAR1", "in.parquet: The file is not a Parquet file: "),
    ],
)
@pytest.mark.parametrize("before", [None, "before"])
def test_rows_that_do_not_fit(
    fails: Callable[..., str], typed: Model, tmp_path: Path, name: str, content: str, message: str, before: str | None
) -> None:
    (tmp_path / name).write_text(content)
    if before is not None:
        (tmp_path / "out.csv").write_text(before)
    assert fails(typed, name, chunk_size=2).startswith(message)
    assert before is None or (tmp_path / "out.csv").read_text() == before


def test_a_gzip_file_that_ends_too_early(fails: Callable[..., str], typed: Model, tmp_path: Path) -> None:
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,1\n" * 1000)[:-9])
    assert fails(typed, "in.csv.gz").startswith("in.csv.gz cannot be read: Compressed file ended")


def test_a_row_of_parquet_is_named(fails: Callable[..., str], typed: Model, tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0] * 6, "b": [1.0, 2, 3, 4, 5.5, 6]}).to_parquet(tmp_path / "in.parquet")
    assert fails(typed, "in.parquet") == "in.parquet: row 5: the value of b is not of type long: it has a fraction."


def test_a_model_that_refuses_and_one_that_breaks(fails: Callable[..., str], predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n2\n")

    def refuses(frame: pd.DataFrame) -> Any:
        raise ValueError("no negative\nand more")

    assert fails(python_model(refuses), "in.csv") == "in.csv: lines 2 to 3: the model refused the input: no negative"

    def exits(frame: pd.DataFrame) -> Any:
        sys.exit(0)

    for breaks in (lambda frame: 1 // 0, exits):
        with pytest.raises(ModelBrokenError, match="lines 2 to 3: the model failed with"):
            predict(python_model(breaks), "in.csv", "out.csv")
    assert not (tmp_path / "out.csv").exists()


PARAMS = Signature(
    params=(
        Param(DataType.DOUBLE, "threshold", 0.5),
        Param(DataType.STRING, "word", "no"),
        Param(DataType.LONG, "many", [1], is_list=True),
    )
)


def test_params_are_read_as_they_are_declared() -> None:
    given = [("threshold", "0.25"), ("word", "7"), ("many", "[1, 2]")]
    assert read_params(given, PARAMS) == {"threshold": 0.25, "word": "7", "many": [1, 2]}
    assert read_params([("any", "[1]"), ("other", "text")], None) == {"any": [1], "other": "text"}
    assert read_params([], PARAMS) is None
    with pytest.raises(BatchError) as caught:
        read_params([("treshold", "1")], PARAMS)
    assert caught.value.message == "The model has no parameter treshold."
    assert caught.value.hint == "Its signature declares: threshold, word, many."


class ParamsModel:
    name = "params"
    signature = PARAMS
    chat_keys: frozenset[str] = frozenset()

    def predict(self, data: Any, params: Any) -> Any:
        return [params] * len(data.value)


def test_params_reach_the_model_before_those_of_the_document(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"inputs": [1], "params": {"word": "yes", "threshold": 0}}')
    predict(ParamsModel(), "in.json", "out.json", params={"threshold": 1})
    assert json.loads((tmp_path / "out.json").read_text()) == {"predictions": [{"word": "yes", "threshold": 1}]}
    (tmp_path / "in.jsonl").write_text("[1]\n")
    predict(ParamsModel(), "in.jsonl", "out.jsonl", params={"threshold": 1})
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"threshold": 1}


def run(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, **settings)


def test_the_command(estimators: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.csv")
    ended = run(estimators / "named.joblib", "--input=in.csv", "--output=out.csv", "--chunk-size=3", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    assert re.fullmatch(r"Wrote 25 predictions to out\.csv in \d+\.\d seconds\.\n", ended.stderr)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 26


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input=gone.csv"], "Error: There is no file gone.csv.\nHint: Check the path of the input.\n"),
        (
            ["--output=in.csv"],
            "Error: in.csv is both input and output.\nHint: Name another file for the predictions.\n",
        ),
        (["--param=a=1"], "Error: The model has no parameter a.\nHint: Only MLflow models declare parameters.\n"),
        (["--format=skops"], "Error: The model cannot be loaded: "),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    estimators: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(tmp_path / "in.csv")
    ended = run(estimators / "named.joblib", "--input=in.csv", "--output=out.csv", *arguments, cwd=tmp_path)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["in.csv"]


def test_the_traceback_of_a_model_that_breaks_is_shown(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("def predict(frame):\n    return 1 // 0  # here\n")
    (tmp_path / "in.csv").write_text("a\n1\n")
    ended = run("model.py:predict", "--input=in.csv", "--output=out.csv", cwd=tmp_path)
    assert ended.returncode == 1
    assert "# here" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("Error: in.csv: line 2: the model failed with ZeroDivision")


@pytest.mark.parametrize("arguments", [["--param=x"], ["--chunk-size=0"], ["--casting=wrong"]])
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    ended = run("m", "--input=a.csv", "--output=b.csv", *arguments)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_leaves_what_was_there(tmp_path: Path, number: int, status: int) -> None:
    (tmp_path / "model.py").write_text(
        "import time\n"
        "def predict(frame):\n"
        "    if frame['a'].iloc[0] == 3:\n"
        "        print('called', flush=True)\n"
        "        time.sleep(60)\n"
        "    return frame['a'].tolist()\n"
    )
    (tmp_path / "in.csv").write_text("a\n1\n2\n3\n4\n")
    (tmp_path / "out.csv").write_text("before")
    command = [*COMMAND, "./model.py:predict", "--input=in.csv", "--output=out.csv", "--chunk-size=1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "called\n"
        assert any(each.name.endswith(".partial") for each in tmp_path.iterdir())
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert said == "Cancelled.\n"
    assert (tmp_path / "out.csv").read_text() == "before"
    assert {each.name for each in tmp_path.iterdir()} - {"__pycache__"} == {"in.csv", "model.py", "out.csv"}


@pytest.mark.parametrize(("source", "target"), [("in.parquet", "out.csv"), ("in.csv", "out.parquet")])
def test_parquet_without_its_library(
    fails: Callable[..., str], typed: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    write(tmp_path / source)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    message = fails(typed, source, target)
    assert message.endswith("Parquet needs pyarrow, which is not installed where the model runs.")


def test_what_nohup_started_outlives_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import os, signal\n"
        "def predict(frame):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    return frame['a'].tolist()\n"
    )
    (tmp_path / "in.csv").write_text("a\n1\n")
    command = ["nohup", *COMMAND, "./model.py:predict", "--input=in.csv", "--output=out.csv"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stderr
