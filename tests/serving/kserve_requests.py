"""Asks a model server by the client of the ``kserve`` package: python kserve_requests.py URL MODEL

For an environment that has kserve, whose requirements do not agree with ours. The model returns what it is given. What
the client understood is written to stdout as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

VALUES = {
    "BOOL": np.array([[True, False]]),
    "INT64": np.array([[-(2**53) - 1, 2]]),
    "UINT8": np.array([[0, 255]], dtype="uint8"),
    "FP32": np.array([[0.1, 2.5]], dtype="float32"),
    "FP64": np.array([[0.1, 1e300]]),
    "BYTES": np.array([["a", "é"]], dtype=object),
}


def request(model: str, *, is_binary: bool) -> InferRequest:
    given, wanted = [], []
    for datatype, values in VALUES.items():
        tensor = InferInput(datatype.lower(), list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=is_binary)
        given.append(tensor)
        wanted.append(RequestedOutput(datatype.lower(), {"binary_data": is_binary}))
    return InferRequest(model, given, request_id="7", request_outputs=wanted)


def understood(answer: Any) -> dict[str, Any]:
    outputs = {output.name: np.asarray(output.as_numpy()) for output in answer.outputs}
    plain = {
        name: [each.decode() if isinstance(each, bytes) else each for each in values.reshape(-1).tolist()]
        for name, values in outputs.items()
    }
    shapes = {name: list(values.shape) for name, values in outputs.items()}
    return {"id": answer.id, "model": answer.model_name, "values": plain, "shapes": shapes}


async def main(url: str, model: str) -> dict[str, Any]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        seen = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model": await client.is_model_ready(url, model),
            "stranger": await client.is_model_ready(url, "stranger"),
            "json": understood(await client.infer(url, request(model, is_binary=False), model_name=model)),
            "binary": understood(await client.infer(url, request(model, is_binary=True), model_name=model)),
        }
        try:
            await client.infer(url, request("stranger", is_binary=False), model_name="stranger")
        except httpx.HTTPStatusError as error:
            seen["refusal"] = str(error)
        return seen


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout)
