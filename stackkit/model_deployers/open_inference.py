"""Asking a model server for predictions over the protocols that KServe and Seldon Core speak.

V1 is TensorFlow Serving's (``/v1/models/NAME:predict``), V2 the Open Inference Protocol
(``/v2/models/NAME/infer``): https://kserve.github.io/website/docs/concepts/architecture/data-plane
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..errors import NotSupportedError, PredictionError
from .predictions import PAYLOAD_KEYS, is_loopback, without_arrays

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from .service import Service

Protocol = Literal["v1", "v2"]

_TIMEOUT_SECONDS = (5, 310)  # as for MLflow's protocol
_DATATYPES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"} | {
    f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


@dataclass(frozen=True)
class Route:
    """Where requests are sent, and under which name of the host where that is another than the URL's."""

    url: str
    host: str | None = None


def path(protocol: Protocol, model: str) -> str:
    """The path of a model's predictions."""
    return f"/v1/models/{model}:predict" if protocol == "v1" else f"/v2/models/{model}/infer"


def request_inference(
    service: Service, route: Route, protocol: Protocol, data: Any, params: Mapping[str, Any] | None
) -> Any:
    """Post ``data`` to ``route`` and return the predictions: nested lists, or an object of them by output's name.

    Takes what ``BaseModelDeployer.predict`` takes, and whole requests of the protocol. Raises PredictionError when
    the server cannot be reached, refuses or fails, with its words, and NotSupportedError for parameters in V1.
    """
    import requests
    from pydantic_core import to_json

    write, read = _PROTOCOLS[protocol]
    body = to_json(without_arrays(write(data, params)), inf_nan_mode="null")
    headers = {"Content-Type": "application/json", **({"Host": route.host} if route.host else {})}
    with requests.Session() as session:
        session.trust_env = not is_loopback(route.url)
        try:
            # a gateway that sends on to another address would turn the request into a GET
            response = session.post(
                route.url, data=body, headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            raise PredictionError(
                f"The service {service.name!r} cannot be reached at {route.url}: {type(error).__name__}.",
                f"See how it is: stackkit model-deployer models describe {service.id[:8]}.",
            ) from error
    if response.status_code != 200:
        raise PredictionError(f"The service {service.name!r} answered {response.status_code}: {_words(response)}")
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError):
        raise PredictionError(
            f"The service {service.name!r} did not answer in the protocol {protocol}: {response.text[:200]!r}."
        ) from None


def _v1_request(data: Any, params: Mapping[str, Any] | None) -> dict[str, Any]:
    if params:
        raise NotSupportedError(
            "The protocol V1 has no parameters.", "Leave the parameters out, or serve the model with protocol=v2."
        )
    if isinstance(data, Mapping) and "instances" in data:
        return dict(data)
    table = _tabular(data)
    return {"instances": table.to_dict(orient="records") if _is_frame(table) else table}


def _v1_answer(answer: Mapping[str, Any]) -> Any:
    return answer["predictions"]


def _v2_request(data: Any, params: Mapping[str, Any] | None) -> dict[str, Any]:
    request: dict[str, Any]
    if isinstance(data, Mapping) and _are_tensors(data.get("inputs")):
        request = dict(data)
    else:
        table = _tabular(data)
        # MLServer takes columns for a table when it is told so
        as_table = {"parameters": {"content_type": "pd"}} if _is_frame(table) else {}
        request = {"inputs": _columns(table) if _is_frame(table) else [_tensor("input-0", table)], **as_table}
    return {**request, "parameters": {**request.get("parameters", {}), **params}} if params else request


def _v2_answer(answer: Mapping[str, Any]) -> Any:
    import numpy as np

    outputs = {
        each["name"]: np.array(each["data"], dtype=object).reshape(each["shape"]).tolist() for each in answer["outputs"]
    }
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


_PROTOCOLS: dict[
    Protocol, tuple[Callable[[Any, Mapping[str, Any] | None], dict[str, Any]], Callable[[Mapping[str, Any]], Any]]
] = {"v1": (_v1_request, _v1_answer), "v2": (_v2_request, _v2_answer)}


def _tabular(data: Any) -> Any:
    """The data out of a request in MLflow's scoring protocol, a dictionary of columns as a frame; else as it is."""
    if isinstance(data, Mapping):
        if "dataframe_split" in data:
            split = data["dataframe_split"]
            return _frame(split["data"], split.get("columns"))
        if "dataframe_records" in data:
            return _frame(data["dataframe_records"])
        data = next((data[key] for key in PAYLOAD_KEYS if key in data), data)
    return _frame(data) if isinstance(data, Mapping) else data


def _columns(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [_tensor(str(name), frame[name].to_numpy()) for name in frame.columns]


def _tensor(name: str, data: Any) -> dict[str, Any]:
    import numpy as np

    try:
        values: np.ndarray[Any, Any] = np.asarray(data)
    except ValueError:
        raise PredictionError(
            "The rows are not equally long, and the protocol V2 takes tensors.", "Give each row as many values."
        ) from None
    if values.ndim == 0:
        values = values.reshape(1)
    datatype = _DATATYPES.get(values.dtype.name)
    flat = values.ravel() if datatype else [_text(value) for value in values.ravel()]
    return {"name": name, "shape": list(values.shape), "datatype": datatype or "BYTES", "data": list(flat)}


def _text(value: Any) -> Any:
    return None if value is None or value != value else str(value)  # NaN is where a column of text has nothing


def _are_tensors(inputs: Any) -> bool:
    return isinstance(inputs, list) and all(isinstance(each, Mapping) and "datatype" in each for each in inputs)


def _is_frame(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "to_dict")


def _frame(data: Any, columns: Any = None) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.DataFrame(data, columns=columns)
    except (ValueError, TypeError) as error:
        raise PredictionError(f"The data is no table: {error}.") from None


def _words(response: Any) -> str:
    try:
        answer = response.json()
        return str(answer.get("error") or answer["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(response.text[:500])
