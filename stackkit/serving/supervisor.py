"""The supervisor: keeps one worker alive in each slot, and says how they are.

It holds the listening sockets, so that a worker's death costs no connection that is still waiting. A worker gets its
slot's socket, a pipe for its output and one end of a socket pair, over which it reports ``{"event": "ready"}`` or
``{"event": "failed", "error": "…"}`` in JSON lines, and whose end-of-file tells it that the supervisor is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .claims import Launch, Phase, ServerState, WorkerPhase, WorkerState
from .listening import ListenError, listen, url_host
from .logs import LogWriter

logger = logging.getLogger("stackkit.serving.supervisor")

GRACE = 10.0
"""Seconds that a worker has to end by itself once it was asked to."""

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 10.0
_HEALTHY_AFTER = 60.0
_LONGEST_LINE = 64 * 1024


@dataclass
class _Slot:
    """One worker's place: its listening socket stays, its processes come and go."""

    number: int
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    control: socket.socket | None = None
    output: int | None = None
    phase: WorkerPhase = WorkerPhase.LOADING
    lives: int = 0
    was_ready: bool = False
    ready_at: float = 0.0
    delay: float = _FIRST_DELAY
    restart_at: float | None = None
    error: str | None = None
    last_line: str = ""
    messages: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)

    def state(self) -> WorkerState:
        pid = self.process.pid if self.process else None
        restarts = max(self.lives - 1, 0)
        return WorkerState(slot=self.number, pid=pid, phase=self.phase, restarts=restarts)


class Supervisor:
    """Runs one server in the foreground of this process's main thread, which must own its signals.

    ``report`` is called with each new state, ``log`` takes the workers' output.
    """

    def __init__(self, launch: Launch, log: LogWriter, report: Callable[[ServerState], None]) -> None:
        self._launch = launch
        self._log = log
        self._report = report
        self._phase = Phase.STARTING
        self._since = time.time()
        self._error: str | None = None
        self._port: int | None = None
        self._slots: list[_Slot] = []
        self._selector = selectors.DefaultSelector()
        self._signal: int | None = None
        self._kill_at: float | None = None

    def run(self) -> ServerState:
        """Serve until SIGTERM or SIGINT (phase STOPPED) or until the server cannot start (FAILED)."""
        with self._selector, self._signals():
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
                    self._start(slot)
            except OSError as error:
                self._stop(f"the interpreter {self._interpreter} cannot be started: {error.strerror}")
            else:
                self._enter(Phase.LOADING)
            while self._kill_at is None or any(slot.process for slot in self._slots):
                self._turn()
            return self._end(self._error)

    @property
    def signal(self) -> int | None:
        """The signal that ended the server, None while there was none."""
        return self._signal

    @property
    def _interpreter(self) -> str:
        return self._launch.python or sys.executable

    # one turn of the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout()):
            key.data()
        for slot in self._slots:
            if slot.process and slot.process.poll() is not None:
                self._ended(slot, slot.process.returncode)
        if self._signal is not None and self._kill_at is None:
            logger.info("stopping on %s", signal.Signals(self._signal).name)
            self._stop(None)
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            for slot in self._slots:
                if slot.process:
                    logger.warning("worker %d did not end within %g seconds: killed", slot.number, GRACE)
                    slot.process.kill()
            self._kill_at = now + GRACE
        for slot in self._slots:
            if slot.restart_at is not None and now >= slot.restart_at:
                slot.restart_at = None
                self._restart(slot)

    def _timeout(self) -> float | None:
        due = [slot.restart_at for slot in self._slots if slot.restart_at is not None]
        if self._kill_at is not None:
            due.append(self._kill_at)
        return max(min(due) - time.monotonic(), 0) if due else None

    # the workers

    def _start(self, slot: _Slot) -> None:
        ours, theirs = socket.socketpair()
        output, write_end = os.pipe()
        descriptors = (slot.listener.fileno(), theirs.fileno())
        try:
            slot.process = subprocess.Popen(
                self._command(slot, *descriptors),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=descriptors,
                # out of the terminal's reach: Ctrl-C ends the supervisor, which ends its workers in order
                process_group=0,
            )
        except OSError:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(write_end)
        ours.setblocking(False)
        os.set_blocking(output, False)
        slot.control, slot.output = ours, output
        slot.messages.clear()
        slot.text.clear()
        slot.phase, slot.error, slot.last_line = WorkerPhase.LOADING, None, ""
        slot.lives += 1
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._read_control(slot))
        self._selector.register(output, selectors.EVENT_READ, lambda: self._read_output(slot))
        logger.info("worker %d started (pid %d)", slot.number, slot.process.pid)

    def _command(self, slot: _Slot, listener: int, control: int) -> list[str]:
        launch = self._launch
        command = [self._interpreter, "-P", "-u", "-m", f"{__package__}.worker", launch.model]
        command += ["--listener", str(listener), "--control", str(control), "--supervisor", str(os.getpid())]
        command += ["--host", launch.host, "--request-timeout", str(launch.request_timeout)]
        command += ["--max-body", str(launch.max_body), "--slot", str(slot.number)]
        command += ["--batching", launch.batching, "--max-batch-size", str(launch.max_batch_size)]
        command += ["--casting", launch.casting]
        command += [f"--model-name={launch.model_name}"] if launch.model_name else []
        return [*command, "--format", launch.format] if launch.format else command

    def _restart(self, slot: _Slot) -> None:
        try:
            self._start(slot)
        except OSError as error:
            logger.error("worker %d cannot be started: %s", slot.number, error.strerror)  # noqa: TRY400
            self._schedule(slot)
        self._publish()

    def _schedule(self, slot: _Slot) -> None:
        slot.restart_at = time.monotonic() + slot.delay
        slot.delay = min(slot.delay * 2, _LONGEST_DELAY)

    def _read_control(self, slot: _Slot) -> None:
        assert slot.control is not None  # noqa: S101 - registered only while it is open
        try:
            received = slot.control.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._close_control(slot)
            return
        slot.messages += received
        while b"\n" in slot.messages:
            line, _, rest = bytes(slot.messages).partition(b"\n")
            slot.messages[:] = rest
            self._heard(slot, line)

    def _heard(self, slot: _Slot, line: bytes) -> None:
        try:
            message: dict[str, Any] = json.loads(line)
            event = message["event"]
        except (ValueError, TypeError, KeyError):
            logger.warning("worker %d said something unintelligible", slot.number)
            return
        if event == "failed":
            slot.error = str(message.get("error"))
        elif event == "ready":
            slot.phase, slot.was_ready, slot.ready_at = WorkerPhase.READY, True, time.monotonic()
            logger.info("worker %d is ready", slot.number)
            if self._phase is Phase.LOADING and all(each.was_ready for each in self._slots):
                logger.info("serving at http://%s:%d", url_host(self._launch.host), self._port)
                self._enter(Phase.READY)
            else:
                self._publish()

    def _read_output(self, slot: _Slot) -> bool:
        """Pass on what the worker wrote; False when there is nothing more for now."""
        assert slot.output is not None  # noqa: S101 - registered only while it is open
        try:
            received = os.read(slot.output, _LONGEST_LINE)
        except BlockingIOError:
            return False
        if not received:
            self._close_output(slot)
            return False
        slot.text += received
        *lines, rest = bytes(slot.text).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        slot.text[:] = rest
        for line in lines:
            self._log.put(line + b"\n")
            if line.strip():
                slot.last_line = line.decode("utf-8", "replace").strip()
        return True

    def _ended(self, slot: _Slot, status: int) -> None:
        while slot.output is not None and self._read_output(slot):
            pass  # a worker's last words
        if slot.control is not None:
            self._read_control(slot)
        self._close_output(slot)
        self._close_control(slot)
        slot.process = None
        slot.phase = WorkerPhase.ENDED
        if self._kill_at is not None:
            return
        manner = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with exit code {status}"
        if not slot.was_ready:
            said = f": {slot.last_line}" if slot.last_line else ""
            self._stop(slot.error or f"worker {slot.number} {manner} before it had loaded the model{said}")
            return
        if slot.ready_at and time.monotonic() - slot.ready_at >= _HEALTHY_AFTER:
            slot.delay = _FIRST_DELAY
        slot.ready_at = 0.0
        logger.error("worker %d %s; it is replaced in %g seconds", slot.number, manner, slot.delay)
        self._schedule(slot)
        self._publish()

    def _close_control(self, slot: _Slot) -> None:
        if slot.control is not None:
            self._selector.unregister(slot.control)
            slot.control.close()
            slot.control = None

    def _close_output(self, slot: _Slot) -> None:
        if slot.output is not None:
            if slot.text:
                self._log.put(bytes(slot.text) + b"\n")
                slot.last_line = slot.text.decode("utf-8", "replace").strip() or slot.last_line
                slot.text.clear()
            self._selector.unregister(slot.output)
            os.close(slot.output)
            slot.output = None

    # the end

    def _stop(self, error: str | None) -> None:
        """Ask every worker to end, and begin to count their grace. ``error`` is why, None for a wish."""
        self._error = error
        self._kill_at = time.monotonic() + GRACE
        for slot in self._slots:
            slot.restart_at = None
            slot.listener.close()  # what nobody will accept any more must not wait in a backlog
            if slot.process:
                slot.process.terminate()
        self._enter(Phase.STOPPING)

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
        )
        self._report(state)
        return state

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into bytes on a socket that the loop reads."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
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
        if number != signal.SIGCHLD and self._signal is None:
            self._signal = number


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
