"""One worker as the supervisor sees it: a process, what it says, and what it prints.

A worker gets its slot's listening socket, a pipe for its output and one end of a socket pair. Over the latter it
reports in JSON lines: ``{"event": "ready"}``, ``{"event": "failed", "error": "…"}``, ``{"event": "alive"}`` once a
second from then on, and ``{"event": "draining"}`` when it accepts no more connections. That end's end-of-file tells it
that the supervisor is gone.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from .claims import Launch, WorkerPhase
from .logs import LogWriter

logger = logging.getLogger("stackkit.serving.supervisor")

_LONGEST_LINE = 64 * 1024


class WorkerProcess:
    """Runs from its making until ``close``. ``phase`` is never ENDED: that is the slot's to say."""

    def __init__(
        self,
        launch: Launch,
        *,
        slot: int,
        listener: socket.socket,
        metrics: int,
        region: int,
        patience: float,
        selector: selectors.BaseSelector,
        log: LogWriter,
    ) -> None:
        """Start it. ``metrics`` is the descriptor of the shared memory. It accepts connections when it has loaded the
        model, or after ``patience`` seconds, to say that it is loading. Raises OSError.
        """
        self.launch = launch
        self.slot = slot
        self.region = region
        self.phase = WorkerPhase.LOADING
        self.heard_at = time.monotonic()
        self.ready_at: float | None = None
        self.kill_at: float | None = None
        self.is_draining = False
        self.error: str | None = None
        self.last_line = ""
        self._selector = selector
        self._log = log
        self._messages = bytearray()
        self._text = bytearray()
        ours, theirs = socket.socketpair()
        output, write_end = os.pipe()
        inherited = {"listener": listener.fileno(), "control": theirs.fileno(), "metrics": metrics, "region": region}
        try:
            self._process = subprocess.Popen(
                [*_command(launch, slot, inherited), "--patience", str(patience)],
                env=_environment(launch, slot),
                stdin=subprocess.DEVNULL,
                stdout=write_end,
                stderr=write_end,
                pass_fds=(listener.fileno(), theirs.fileno(), metrics),
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
        self._control: socket.socket | None = ours
        self._output: int | None = output
        selector.register(ours, selectors.EVENT_READ, self._read_control)
        selector.register(output, selectors.EVENT_READ, self._read_output)
        logger.info("worker %d started (pid %d)", slot, self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def end(self, grace: float) -> None:
        """Ask it to end; when it has not done so after ``grace`` seconds it is due to be killed."""
        self.kill_at = time.monotonic() + grace
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Take in its last words. To be called once it has ended."""
        while self._read_output():
            pass
        while self._read_control():
            pass
        self._close_output()
        self._close_control()

    def _read_control(self) -> bool:
        """Take in what it said; False when there is nothing more for now."""
        if self._control is None:
            return False
        try:
            received = self._control.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            received = b""
        if not received:
            self._close_control()
            return False
        self._messages += received
        *lines, rest = bytes(self._messages).split(b"\n")
        self._messages[:] = rest
        for line in lines:
            self._heard(line)
        return True

    def _heard(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            event = message["event"]
        except (ValueError, TypeError, KeyError):
            logger.warning("worker %d said something unintelligible", self.slot)
            return
        self.heard_at = time.monotonic()
        if event == "failed":
            self.error = str(message.get("error"))
        elif event == "ready":
            self.phase, self.ready_at = WorkerPhase.READY, self.heard_at
            logger.info("worker %d is ready", self.slot)
        elif event == "draining":
            self.is_draining = True

    def _read_output(self) -> bool:
        """Pass on what it wrote; False when there is nothing more for now."""
        if self._output is None:
            return False
        try:
            received = os.read(self._output, _LONGEST_LINE)
        except BlockingIOError:
            return False
        if not received:
            self._close_output()
            return False
        self._text += received
        *lines, rest = bytes(self._text).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        self._text[:] = rest
        if lines:
            self._log.put(b"\n".join(lines) + b"\n")
            self.last_line = _last(lines) or self.last_line
        return True

    def _close_control(self) -> None:
        if self._control is not None:
            self._selector.unregister(self._control)
            self._control.close()
            self._control = None

    def _close_output(self) -> None:
        if self._output is not None:
            if self._text:
                self._log.put(bytes(self._text) + b"\n")
                self.last_line = _last([bytes(self._text)]) or self.last_line
                self._text.clear()
            self._selector.unregister(self._output)
            os.close(self._output)
            self._output = None


def _last(lines: Sequence[bytes]) -> str:
    return next((text for line in reversed(lines) if (text := line.decode("utf-8", "replace").strip())), "")


def _environment(launch: Launch, slot: int) -> dict[str, str]:
    """The supervisor's own, but for the slot's device, and what would lead another interpreter to our libraries."""
    environment = dict(os.environ)
    if launch.python is not None:
        for name in ("PYTHONPATH", "PYTHONHOME"):
            environment.pop(name, None)
    if launch.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = launch.gpus.split(",")[slot].strip()
    return environment


def _command(launch: Launch, slot: int, inherited: dict[str, int]) -> list[str]:
    command = [launch.python or sys.executable, "-P", "-u", "-m", f"{__package__}.worker", launch.model]
    for name, number in {**inherited, "supervisor": os.getpid(), "slot": slot}.items():
        command += [f"--{name}", str(number)]
    command += ["--host", launch.host, "--request-timeout", str(launch.request_timeout)]
    command += ["--max-body", str(launch.max_body)]
    command += ["--batching", launch.batching, "--max-batch-size", str(launch.max_batch_size)]
    command += ["--casting", launch.casting, "--log-format", launch.log_format]
    optional = {
        "format": launch.format,
        "model-name": launch.model_name,
        "token-file": launch.token_file,
        "certfile": launch.certfile,
        "keyfile": launch.keyfile,
    }
    return command + [f"--{name}={value}" for name, value in optional.items() if value]
