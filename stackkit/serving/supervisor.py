"""The supervisor: keeps one worker alive in each slot, replaces all of them on an update, and says how they are.

It holds the listening sockets, so that neither a worker's death nor an update costs a connection that still waits.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .bounds import HEARTBEAT, LINGER, LOAD_PATIENCE, stuck_after
from .claims import ClaimError, FailedUpdate, Launch, Phase, ServerState, WorkerPhase, WorkerState
from .listening import ListenError, is_loopback, listen, url_host
from .logs import LogWriter
from .metrics import RESTARTS, Memory, Metrics, reset_gauges
from .worker_process import WorkerProcess

logger = logging.getLogger("stackkit.serving.supervisor")

GRACE = 10.0
"""Seconds that a worker has to end by itself once it was asked to."""

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_HEALTHY_AFTER = 60.0
_REGIONS = 2  # of a slot: one for the worker that serves, one for the one that comes or goes


@dataclass
class _Slot:
    """One worker's place: its listening socket stays, its processes come and go."""

    number: int
    listener: socket.socket
    current: WorkerProcess | None = None
    coming: WorkerProcess | None = None
    """Loads the new model, while ``current`` still serves the old one."""
    leaving: list[WorkerProcess] = field(default_factory=list)
    restarts: int = 0
    was_ready: bool = False
    delay: float = _FIRST_DELAY
    restart_at: float | None = None

    def workers(self) -> list[WorkerProcess]:
        return [worker for worker in (self.current, self.coming, *self.leaving) if worker is not None]

    def free_region(self) -> int:
        first = 1 + self.number * _REGIONS
        taken = {worker.region for worker in self.workers()}
        return next(region for region in range(first, first + _REGIONS) if region not in taken)

    def state(self) -> WorkerState:
        worker = self.current
        pid, phase = (None, WorkerPhase.ENDED) if worker is None else (worker.pid, worker.phase)
        return WorkerState(slot=self.number, pid=pid, phase=phase, restarts=self.restarts)


class Supervisor:
    """Runs one server in the foreground of this process's main thread, which must own its signals.

    ``report`` is called with each new state, and again soon when it raises OSError; ``log`` takes the workers' output.
    On SIGUSR1 ``reread`` says what is to be served from now on; without it that is what is served already, loaded
    anew. ``failed_update`` is told until then.
    """

    def __init__(
        self,
        launch: Launch,
        log: LogWriter,
        report: Callable[[ServerState], None],
        reread: Callable[[], Launch] | None = None,
        failed_update: FailedUpdate | None = None,
    ) -> None:
        self._launch = launch
        self._served = launch  # ahead of the former until the last worker of that has stopped accepting
        self._log = log
        self._report = report
        self._reread = reread or (lambda: launch)
        self._phase = Phase.STARTING
        self._since = time.time()
        self._error: str | None = None
        self._port: int | None = None
        self._slots: list[_Slot] = []
        self._selector = selectors.DefaultSelector()
        self._signal: int | None = None
        self._stopping = False
        self._update_asked = False
        self._update: Launch | None = None
        self._failed_update = failed_update
        self._published: ServerState | None = None
        self._unreported: ServerState | None = None
        self._shared = -1
        self._memory: Memory

    def run(self) -> ServerState:
        """Serve until SIGTERM or SIGINT (phase STOPPED) or until the server cannot start (FAILED)."""
        with self._selector, self._signals(), self._shared_memory():
            self._publish()
            try:
                sockets = listen(
                    self._launch.host, self._launch.port, self._launch.workers, self._launch.preferred_port
                )
            except ListenError as error:
                return self._end(str(error))
            self._port = sockets[0].getsockname()[1]
            self._slots = [_Slot(number, each) for number, each in enumerate(sockets)]
            try:
                for slot in self._slots:
                    slot.current = self._start(slot, self._launch, patience=0)
            except OSError as error:
                self._stop(_cannot_start(self._launch, error))
            else:
                self._enter(Phase.LOADING)
            while not self._stopping or any(slot.workers() for slot in self._slots):
                self._turn()
            return self._end(self._error)

    @property
    def signal(self) -> int | None:
        """The signal that ended the server, None while there was none."""
        return self._signal

    # one turn of the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            key.data()
        for slot in self._slots:
            slot.was_ready |= slot.current is not None and slot.current.phase is WorkerPhase.READY
            for worker in slot.workers():
                if worker.status is not None:
                    self._ended(slot, worker, worker.status)
        if self._signal is not None and not self._stopping:
            logger.info("stopping on %s", signal.Signals(self._signal).name)
            self._stop(None)
        self._kill_overdue(time.monotonic())
        if not self._stopping:
            self._go_on(time.monotonic())
        self._publish()

    def _go_on(self, now: float) -> None:
        for slot in self._slots:
            if slot.restart_at is not None and now >= slot.restart_at:
                slot.restart_at = None
                self._restart(slot)
        if self._phase is Phase.LOADING and all(slot.was_ready for slot in self._slots):
            scheme = "https" if self._launch.certfile else "http"
            logger.info("serving at %s://%s:%d", scheme, url_host(self._launch.host), self._port)
            if not is_loopback(self._launch.host) and self._launch.token_file is None:
                logger.warning("whoever reaches %s may use the model: --token-file asks for a token", self._launch.host)
            self._enter(Phase.READY)
        self._go_on_with_updates()

    def _go_on_with_updates(self) -> None:
        if self._update is not None and self._update_asked:
            self._reconsider(self._update)
        if self._update is not None:
            if all(slot.coming is not None and slot.coming.phase is WorkerPhase.READY for slot in self._slots):
                self._switch(self._update)
        elif self._served is not self._launch:
            if all(worker.is_draining for slot in self._slots for worker in slot.leaving):
                self._launch = self._served
                logger.info("revision %d is served", self._launch.revision)
                self._enter(Phase.READY)
        elif self._update_asked and self._phase is Phase.READY and not any(slot.leaving for slot in self._slots):
            self._update_asked = False
            self._begin_update()

    def _kill_overdue(self, now: float) -> None:
        for slot in self._slots:
            for worker in slot.workers():
                if worker.kill_at is not None and now >= worker.kill_at:
                    logger.warning("worker %d did not end within %g seconds: killed", slot.number, GRACE)
                    worker.kill_at = now + GRACE
                    worker.kill()
                elif worker.kill_at is None and now >= _silent_at(worker):
                    logger.error("worker %d gives no sign of life: killed", slot.number)
                    worker.kill_at = now + GRACE
                    worker.kill()

    def _timeout(self) -> float | None:
        due = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        workers = [worker for slot in self._slots for worker in slot.workers()]
        due += [_silent_at(worker) if worker.kill_at is None else worker.kill_at for worker in workers]
        return max(min(due) - time.monotonic(), 0) if due and min(due) < float("inf") else None

    # the workers

    def _start(self, slot: _Slot, launch: Launch, *, patience: float) -> WorkerProcess:
        return WorkerProcess(
            launch,
            slot=slot.number,
            listener=slot.listener,
            metrics=self._shared,
            region=slot.free_region(),
            patience=patience,
            selector=self._selector,
            log=self._log,
        )

    def _restart(self, slot: _Slot) -> None:
        try:
            slot.current = self._start(slot, self._served, patience=LOAD_PATIENCE)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", slot.number, error.strerror)  # noqa: TRY400
            self._schedule(slot)
        else:
            slot.restarts += 1
            self._restarts.add(1)

    def _schedule(self, slot: _Slot) -> None:
        slot.restart_at = time.monotonic() + slot.delay
        slot.delay = min(slot.delay * 2, _LONGEST_DELAY)

    def _ended(self, slot: _Slot, worker: WorkerProcess, status: int) -> None:
        worker.close()
        reset_gauges(self._memory, worker.region)
        if worker in slot.leaving:
            slot.leaving.remove(worker)
            return
        # who is killed so has no last word: its line is of something else, such as a request's
        said = f": {worker.last_line}" if worker.last_line and status != -signal.SIGKILL else ""
        manner = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit code {status}"
        too_early = worker.error or f"worker {slot.number} {manner} before it had loaded the model{said}"
        if worker is slot.coming:
            slot.coming = None
            self._fail_update(too_early)
            return
        slot.current = None
        slot.was_ready |= worker.ready_at is not None
        if self._stopping:
            return
        if not slot.was_ready:
            self._stop(too_early)
            return
        if worker.ready_at is not None and time.monotonic() - worker.ready_at >= _HEALTHY_AFTER:
            slot.delay = _FIRST_DELAY
        logger.error("worker %d %s; it is replaced in %g seconds", slot.number, manner, slot.delay)
        self._schedule(slot)

    # updates

    def _begin_update(self) -> None:
        """Start a worker of what is to be served in each slot, beside the one that serves."""
        try:
            self._update = self._reread()
        except ClaimError as error:
            logger.error("there is nothing to update to: %s", error)  # noqa: TRY400
            return
        if self._update.token and self._update.token == self._served.token:
            self._update = None  # it was told twice
            return
        self._failed_update = None
        logger.info("updating to revision %d", self._update.revision)
        fixed = ("host", "workers")
        if changed := [name for name in fixed if getattr(self._update, name) != getattr(self._launch, name)]:
            self._fail_update(f"an update cannot change {' and '.join(changed)}: stop the server and start it again")
            return
        try:
            for slot in self._slots:
                # however long it loads: the worker beside it answers
                slot.coming = self._start(slot, self._update, patience=math.inf)
        except OSError as error:
            self._fail_update(_cannot_start(self._update, error))

    def _reconsider(self, update: Launch) -> None:
        """Another update was asked for before this one was done: there is no need to wait for it to load."""
        try:
            asked = self._reread()
        except ClaimError:
            return  # told when its turn comes
        if asked.token != update.token:
            self._fail_update("another update was asked for meanwhile")
        elif update.token:
            self._update_asked = False  # it was told twice

    def _switch(self, launch: Launch) -> None:
        """Every new worker is ready: let the old ones finish what they have."""
        for slot in self._slots:
            if slot.current is not None:
                slot.leaving.append(slot.current)
                slot.current.end(LINGER + GRACE)
            slot.current, slot.coming, slot.restart_at, slot.delay = slot.coming, None, None, _FIRST_DELAY
        self._served, self._update = launch, None

    def _fail_update(self, error: str) -> None:
        """Go on with what is served, and say why."""
        if self._update is None:
            return  # another slot's worker has failed before
        logger.error("the update to revision %d failed: %s", self._update.revision, error)
        for slot in self._slots:
            if slot.coming is not None:
                slot.leaving.append(slot.coming)
                slot.coming.end(GRACE)
                slot.coming = None
        self._failed_update = FailedUpdate(token=self._update.token, revision=self._update.revision, error=error)
        self._update = None

    # the end

    def _stop(self, error: str | None) -> None:
        """Ask every worker to end. ``error`` is why, None for a wish."""
        self._error = error
        self._stopping = True
        self._enter(Phase.STOPPING)  # before the port refuses anybody, who would take it for an error
        for slot in self._slots:
            slot.restart_at = None
            slot.listener.close()  # what nobody will accept any more must not wait in a backlog
            for worker in slot.workers():
                worker.end(GRACE)

    def _end(self, error: str | None) -> ServerState:
        self._error = error
        if error:
            logger.error("%s", error)
        else:
            logger.info("stopped")
        return self._enter(Phase.FAILED if error else Phase.STOPPED)

    # what is said about it

    def _enter(self, phase: Phase) -> ServerState:
        self._phase, self._since = phase, time.time()
        return self._publish()

    def _publish(self) -> ServerState:
        """Report the state if it has changed."""
        state = ServerState(
            token=self._launch.token,
            revision=self._launch.revision,
            phase=self._phase,
            pid=os.getpid(),
            host=self._launch.host,
            port=self._port,
            error=self._error,
            since=self._since,
            workers=tuple(slot.state() for slot in self._slots),
            failed_update=self._failed_update,
        )
        if state != self._published:
            try:
                self._report(state)
            except OSError as error:
                # a full disk must not end a server that works; each turn of the loop tries again
                if state != self._unreported:
                    logger.warning("the state %s cannot be recorded: %s", state.phase, error)
                self._unreported = state
            else:
                self._published, self._unreported = state, None
        return state

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into bytes on a socket that the loop reads."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1)
        before = {number: signal.signal(number, self._on_signal) for number in handled}
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: reader.recv(4096))
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(reader)
            reader.close()
            writer.close()

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGUSR1:
            self._update_asked = True
        elif number != signal.SIGCHLD and self._signal is None:
            self._signal = number

    @contextlib.contextmanager
    def _shared_memory(self) -> Iterator[None]:
        """What the workers count in: the first region is the supervisor's own."""
        self._shared = Memory.create(1 + self._launch.workers * _REGIONS)
        self._memory = Memory(self._shared)
        self._restarts = Metrics(self._memory, 0).sample(RESTARTS)
        try:
            yield
        finally:
            os.close(self._shared)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _cannot_start(launch: Launch, error: OSError) -> str:
    return f"the interpreter {launch.python or sys.executable} cannot be started: {error.strerror}"


def _silent_at(worker: WorkerProcess) -> float:
    """When a worker that has said nothing since is taken to hang: its model's code does not even let others run."""
    if worker.phase is not WorkerPhase.READY:
        return float("inf")
    return worker.heard_at + stuck_after(worker.launch.request_timeout) + 3 * HEARTBEAT
