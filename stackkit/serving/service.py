"""The loaded model as the protocols' handlers see it: one way to ask it for predictions, whatever they speak."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from .batching import DEFAULT_MAX_BATCH_SIZE, Batching, split
from .dispatcher import AbandonedError, Dispatcher, QueueFullError
from .errors import BadRequestError, ModelFailedError, ModelLoadError, RequestError, UnavailableError
from .first_request import first_request
from .metrics import BATCH_ROWS, QUEUE_DEPTH, Metrics
from .models import Model, PreparedInput, PreparingModel, StreamingModel
from .payloads import Payload
from .routing import Request

logger = logging.getLogger("stackkit.serving.service")

QUEUE_CAPACITY = 256
"""Requests that may wait for the model; one more is answered 503."""

_LARGE = 16 * 1024
"""Bytes of a body whose reading takes longer than waking another thread does, some 0.1 ms."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


async def aside(
    request: Request, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Call ``function``, in a thread if the request is large: other requests must not wait for it to be read or for
    its reply to be written. To be used after ``request.body()``.
    """
    if request.size > _LARGE or "content-encoding" in request.headers:
        return await asyncio.to_thread(function, *args, **kwargs)
    return function(*args, **kwargs)


@dataclass(slots=True)
class _Call:
    """What the model's thread is given: input that was prepared, or data that the model prepares itself."""

    data: Payload | PreparedInput
    params: Mapping[str, Any] | None
    key: Hashable
    rows: int


@dataclass(frozen=True, slots=True)
class _Step:
    """Some other function of the model's for its thread to call."""

    function: Callable[[], Any]
    key: None = None
    rows: int = 1


class Service:
    """Predictions from one model, which clients call ``name``. ``max_batch_size`` is in rows: larger inputs are
    predicted alone.
    """

    def __init__(
        self,
        name: str = "model",
        *,
        metrics: Metrics,
        queue_capacity: int = QUEUE_CAPACITY,
        batching: Batching = Batching.AUTO,
        max_batch_size: int = DEFAULT_MAX_BATCH_SIZE,
    ) -> None:
        self.name = name
        self.metrics = metrics
        self._batch_rows = metrics.histogram(BATCH_ROWS)
        self._queue_capacity = queue_capacity
        self._batching = batching
        self._max_batch_size = max_batch_size
        self._model: Model | None = None
        self.streaming: StreamingModel | None = None
        """The model, if it is one that answers in chunks."""
        self._preparing: PreparingModel | None = None
        self._joins = False
        self._dispatcher: Dispatcher[_Call | _Step, Any] | None = None

    def serve(self, model: Model) -> None:
        """Answer with this model from now on, once it has answered its own first request.

        May be called from any thread that runs no event loop. Raises ModelLoadError when the model fails that request;
        one that refuses it is served, because the request may be what is wrong.
        """
        # asked once: what looks like one method call compares every attribute of the protocol
        if isinstance(model, StreamingModel) and model.can_stream:
            self.streaming = model
        if isinstance(model, PreparingModel):
            self._preparing = model
            self._joins = self._batching is Batching.ON or (self._batching is Batching.AUTO and model.is_rowwise)
        depth = self.metrics.sample(QUEUE_DEPTH)
        dispatcher: Dispatcher[_Call | _Step, Any] = Dispatcher(
            self._run, self._queue_capacity, self._max_batch_size, observe_depth=depth.set
        )
        if (first := first_request(model)) is not None:
            _warm_up(dispatcher, _Step(lambda: model.predict(*first)))
        self._model, self._dispatcher = model, dispatcher

    def check_ready(self) -> None:
        """Raises UnavailableError while the model loads."""
        if self._dispatcher is None:
            raise UnavailableError("The model is still loading.")

    @property
    def model(self) -> Model:
        """The model. Raises UnavailableError while it loads."""
        if self._model is None:
            raise UnavailableError("The model is still loading.")
        return self._model

    def busy_for(self) -> float:
        """Seconds since the call of the model that is being made began; 0 when none is."""
        return 0.0 if self._dispatcher is None else self._dispatcher.busy_for()

    def abandon(self) -> None:
        """Refuse (503) what waits for the model, and what comes: the call that is being made never returns."""
        if self._dispatcher is not None:
            self._dispatcher.abandon()

    async def predict(self, request: Request, data: Payload, params: Mapping[str, Any] | None = None) -> Any:
        """What the model predicts for ``data``, perhaps in one call with other requests' rows.

        Raises RequestError for what the caller is to blame for or when too many requests wait, ModelFailedError for
        anything else that the model raises.
        """
        dispatcher = self._dispatcher
        if dispatcher is None:
            raise UnavailableError("The model is still loading.")
        if self._preparing is not None:
            prepared = await aside(request, self._prepare, self._preparing, data, params)
            call = _Call(prepared, None, prepared.key if self._joins and prepared.rows else None, prepared.rows)
        else:
            call = _Call(data, params, None, 1)
        with _refusals:
            done = await dispatcher.submit(call)
        request.batch_size = done.batch_rows
        return done.outcome

    async def run(self, function: Callable[[], Result], *, is_begun: bool = False) -> Result:
        """Call ``function`` on the model's thread. Raises as ``predict``; a further step of what ``is_begun`` has its
        turn however many requests wait.
        """
        self.check_ready()
        assert self._dispatcher is not None  # noqa: S101 - it is ready
        with _refusals:
            result: Result = (await self._dispatcher.submit(_Step(function), is_begun=is_begun)).outcome
        return result

    def _prepare(self, model: PreparingModel, data: Payload, params: Mapping[str, Any] | None) -> PreparedInput:
        with _blame:
            return model.prepare(data, params)

    def _run(self, works: Sequence[_Call | _Step]) -> list[Any]:
        calls = [work for work in works if isinstance(work, _Call)]
        if not calls:
            with _blame:
                return [work.function() for work in works if isinstance(work, _Step)]
        self._batch_rows.observe(sum(call.rows for call in calls))
        with _blame:
            return self._predict(calls)

    def _predict(self, calls: Sequence[_Call]) -> list[Any]:
        inputs = [call.data for call in calls if isinstance(call.data, PreparedInput)]
        if self._preparing is None or not inputs:
            return [self.model.predict(call.data, call.params) for call in calls if isinstance(call.data, Payload)]
        predictions = self._preparing.predict_prepared(inputs)
        return [predictions] if len(inputs) == 1 else split(predictions, [each.rows for each in inputs])


def _warm_up(dispatcher: Dispatcher[_Call | _Step, Any], step: _Step) -> None:
    """Ask the model for the first time: what its libraries do once is done before a caller waits for it."""
    try:
        asyncio.run(dispatcher.submit(step))
    except RequestError as error:
        logger.warning("the model refuses the request that it was tried with: %s", error)
    except ModelFailedError as error:
        cause = error.__cause__
        logger.error("the model fails at the request that it was tried with", exc_info=cause)  # noqa: TRY400
        raise ModelLoadError(f"it fails when it is asked: {type(cause).__name__}: {cause}") from cause


class _Refusals:
    """Around work for the model's thread: says that it was not even begun."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, QueueFullError):
            raise UnavailableError("Too many requests are waiting for the model.") from None
        if isinstance(error, AbandonedError):
            raise UnavailableError("The model hangs and is about to be replaced.") from None


class _Blame:
    """Around the model's code: says whose fault it is when it raises, the caller's or its own."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, RequestError):
            return
        if isinstance(error, ValueError | TypeError):
            raise BadRequestError(f"The model refused the input: {error}") from error
        # SystemExit and KeyboardInterrupt too: a model that calls exit() must not end the server
        raise ModelFailedError from error


_refusals = _Refusals()
_blame = _Blame()
