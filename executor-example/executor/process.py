"""Runs pi, and ends it with everything that it has started.

In the container this program is process 1: it gets docker's TERM, inherits every orphan, and whatever still runs when
it ends is killed by the kernel. The shell commands of pi are process groups of their own, so pi's group alone wouldn't
reach them.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from failure import ASKED_TO_END, BAD_CONFIGURATION, Failure
from lines import Lines

# docker kills ten seconds after its TERM (two where the task was cancelled, and nothing is delivered); before that, this
# program has something to say.
GRACE_SECS = 5.0
# How long pi's output is read on after its end: a child of it may hold the pipe.
DRAIN_SECS = 1.0
PIECE = 64 * 1024


@dataclass(frozen=True)
class Job:
    """What is to be run, until when by the monotonic clock, and who gets the lines that it prints."""

    command: Sequence[str]
    stdin: IO[bytes]
    environment: Mapping[str, str]
    deadline: float | None
    on_line: Callable[[bytes], None]
    on_error_line: Callable[[bytes], None]


@dataclass(frozen=True)
class Ended:
    """How it ended: `status` is negative where a signal did it."""

    status: int
    in_time: bool


class Signals:
    """TERM, INT and HUP as something to wait for."""

    def __init__(self) -> None:
        self.asked_to_end = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        # With a handler, the end of a child wakes the loop.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _note(self, *_: object) -> None:
        self.asked_to_end = True

    def fileno(self) -> int:
        """What becomes readable with every signal."""
        return self._reader

    def clear(self) -> None:
        """Forgets what has woken the loop, not what was asked."""
        try:
            while os.read(self._reader, 1024):
                pass
        except BlockingIOError:
            pass

    def check(self) -> None:
        """Fails where the end has been asked for."""
        if self.asked_to_end:
            raise Failure(ASKED_TO_END, "asked to end (TERM) before the task was done")


def run(job: Job, signals: Signals) -> Ended:
    """Runs the command until it ends, its deadline is over, or a signal asks for the end."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            job.command, stdin=job.stdin, stdout=pipe, stderr=pipe, env=job.environment, start_new_session=True
        )
    except OSError as error:
        raise Failure(BAD_CONFIGURATION, f"{job.command[0]} can't be started: {error.strerror}") from None
    return _Watch(child, job, signals).to_the_end()


class _Watch:
    def __init__(self, child: "subprocess.Popen[bytes]", job: Job, signals: Signals) -> None:
        self._child = child
        self._job = job
        self._signals = signals
        self._in_time = True
        self._kill_at: float | None = None
        self._status: int | None = None

    def to_the_end(self) -> Ended:
        stdout, stderr = self._child.stdout, self._child.stderr
        assert stdout is not None and stderr is not None
        streams = {stdout.fileno(): (Lines(), self._job.on_line), stderr.fileno(): (Lines(), self._job.on_error_line)}
        with selectors.DefaultSelector() as selector, stdout, stderr:
            selector.register(self._signals, selectors.EVENT_READ)
            for descriptor in streams:
                os.set_blocking(descriptor, False)
                selector.register(descriptor, selectors.EVENT_READ)
            still_open = set(streams)
            drained_at: float | None = None
            while self._status is None or still_open:
                now = time.monotonic()
                self._end_where_it_is_time(now)
                if self._status is not None and drained_at is None:
                    drained_at = now + DRAIN_SECS
                if drained_at is not None and now >= drained_at:
                    break
                for key, _ in selector.select(self._until_next(now, drained_at)):
                    if key.fd not in streams:
                        self._signals.clear()
                    elif not _take(key.fd, *streams[key.fd]):
                        selector.unregister(key.fd)
                        still_open.discard(key.fd)
                self._reap()
        for lines, take in streams.values():
            for line in lines.finish():
                take(line)
        end_all_others(self._child.pid)
        assert self._status is not None
        return Ended(self._status, self._in_time)

    def _end_where_it_is_time(self, now: float) -> None:
        """TERM where it was asked for or the time is over; KILL when the grace after that is over, too."""
        if self._status is not None:
            return
        if self._kill_at is None:
            if self._job.deadline is not None and now >= self._job.deadline:
                self._in_time = False
            elif not self._signals.asked_to_end:
                return
            self._kill_at = now + GRACE_SECS
            _signal_all(self._child.pid, signal.SIGTERM)
        elif now >= self._kill_at:
            # It may take its time, in the middle of a read from a network drive for instance.
            self._kill_at = now + 1.0
            _signal_all(self._child.pid, signal.SIGKILL)

    def _until_next(self, now: float, drained_at: float | None) -> float | None:
        """Seconds until something is due; `None` where only output or a signal can be next."""
        due = drained_at if self._status is not None else self._kill_at or self._job.deadline
        return None if due is None else max(0.0, due - now)

    def _reap(self) -> None:
        """Takes leave of every child that has ended: pi, and the orphans that became ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._child.pid:
                self._status = os.waitstatus_to_exitcode(status)
                # It has been waited for; the object must not do it again.
                self._child.returncode = self._status


def _take(descriptor: int, lines: Lines, take: Callable[[bytes], None]) -> bool:
    """Reads what is there and hands its lines on; false at the end of the stream."""
    try:
        piece = os.read(descriptor, PIECE)
    except BlockingIOError:
        return True
    for line in lines.feed(piece):
        take(line)
    return bool(piece)


def _signal_all(group: int, number: int) -> bool:
    """Signals everything that this program has started; false where nothing is left."""
    try:
        if _is_alone():
            # Every process of the container but this one and process 1.
            os.kill(-1, number)
        else:
            os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # What is left belongs to another user.
        return False
    return True


def _is_alone() -> bool:
    """Whether the container's processes are all there are: this is process 1, or docker's own init has started it."""
    if os.getpid() == 1:
        return True
    if os.getppid() != 1:
        return False
    try:
        with open("/proc/1/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() in ("docker-init", "tini", "catatonit", "dumb-init")
    except OSError:
        return False


def end_all_others(group: int) -> None:
    """Kills what pi has left running in the background, so that nothing changes the results any more."""
    until = time.monotonic() + GRACE_SECS
    while _signal_all(group, signal.SIGKILL) and time.monotonic() < until:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.01)
