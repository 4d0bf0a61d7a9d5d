"""The entry point of the image: reads the task, lets pi do it, and sees to it that there is an answer.

`--check` only looks whether the image can do that, when it is built.
"""

import os
import signal

# Process 1 has no default for TERM, and the rest takes a moment to load.
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))

import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import config
import process
from events import Conversation
from failure import BAD_CONFIGURATION, NO_ANSWER, OUT_OF_TIME, Failure
from limits import format_deadline, own_deadline
from response import Output
from task import Task, compose_format_prompt, compose_prompt, read_task, read_timeout
from text import Printer

WORKSPACE = Path("/workspace")
AGENT = Path("/opt/agent")
# Nothing that lies in the workspace or with a user counts as configuration, and nothing is fetched.
PI = ["pi", "--mode", "json", "--offline", "--no-session", "--no-approve", "--no-extensions", "--no-skills"]
PI += ["--no-prompt-templates", "--no-themes", "--no-context-files"]
TOOLS = "read,bash,edit,write"
FORMATTER = "You change the form of texts, never what they say."


@dataclass(frozen=True)
class Run:
    """All that the turns of a task have in common."""

    private: Path
    model: config.Model
    environment: dict[str, str]
    signals: process.Signals
    deadline: float | None
    printer: Printer


def main() -> int:
    """Does the task and returns the exit status."""
    # The dump of a tool that crashes would be a file of the task, with the model's key in it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signals = process.Signals()
    printer = Printer()
    private: Path | None = None
    try:
        config.check_agent(AGENT)
        if sys.argv[1:] == ["--check"]:
            return 0
        timeout = read_timeout(os.environ)
        formats = config.wants_format_turn(os.environ)
        deadline = own_deadline(timeout, time.monotonic())
        task = read_task(WORKSPACE)
        private = make_private_folder()
        for note in config.copy_configuration(config.MOUNTED, private / "pi-agent"):
            printer.say(note)
        model = config.read_model(private / "pi-agent", config.MOUNTED, os.environ)
        printer.add_secrets(model.secrets)
        printer.say(f"asking {model.provider}/{model.id}, with {len(task.inputs)} input file(s)")
        os.chdir(WORKSPACE)
        do_task(task, timeout, formats, Run(private, model, environment(private), signals, deadline, printer))
        return 0
    except Failure as failure:
        printer.complain(failure.message)
        return failure.status
    except OSError as error:
        # A full disk, most likely.
        printer.complain(f"the executor can't go on: {error}")
        return NO_ANSWER
    finally:
        # /tmp may be a folder of the machine, where keys must not stay.
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)


def make_private_folder() -> Path:
    """A folder for everything that is no result: configuration, HOME, caches."""
    try:
        private = Path(tempfile.mkdtemp(prefix="executor-", dir="/tmp"))
        for name in ("home", "cache", "tmp"):
            (private / name).mkdir()
    except OSError as error:
        raise Failure(BAD_CONFIGURATION, f"/tmp can't be written to by user {os.getuid()}: {error.strerror}") from None
    return private


def environment(private: Path) -> dict[str, str]:
    """What pi and its tools find: a HOME for a user who may not exist, and no reason to write into the workspace."""
    ours = {
        "HOME": private / "home",
        "TMPDIR": private / "tmp",
        "XDG_CACHE_HOME": private / "cache",
        "XDG_CONFIG_HOME": private / "home/.config",
        "XDG_DATA_HOME": private / "home/.local/share",
        "XDG_STATE_HOME": private / "home/.local/state",
        "npm_config_cache": private / "cache/npm",
        "PYTHONPYCACHEPREFIX": private / "cache/python",
        "PI_CODING_AGENT_DIR": private / "pi-agent",
        "PI_SKIP_VERSION_CHECK": "1",
        "PI_TELEMETRY": "0",
        "USER": "task",
        "LOGNAME": "task",
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **{name: str(value) for name, value in ours.items()}}


def do_task(task: Task, timeout: int, formats: bool, run: Run) -> None:
    """The first turn does the task; a second one may bring its answer into the form that was asked for."""
    system = ["--system-prompt", str(AGENT / "AGENT.md"), "--skill", str(AGENT / "skills"), "--tools", TOOLS]
    out_of_time = f"not done within the {timeout} s that a task may take (TIMEOUT)"
    answer = turn(run, system, compose_prompt(task), out_of_time)
    output = Output(WORKSPACE)
    if output.has_response():
        run.printer.say("done; the model wrote output/response.md itself")
        return
    if not answer.strip():
        raise Failure(NO_ANSWER, "the model's answer is empty, and it wrote no output/response.md")
    output.write_response(run.printer.without_secrets(answer))
    if task.output_prompt is not None and formats:
        format_answer(task, answer, output, run)
    run.printer.say("done; the answer is in output/response.md")


def format_answer(task: Task, answer: str, output: Output, run: Run) -> None:
    """Changes the form of the answer. Whatever goes wrong here, and whoever asks for the end, the answer itself is there
    already, so that this is no failure of the task."""
    run = replace(run, deadline=format_deadline(run.deadline, time.monotonic()))
    run.printer.say("bringing the answer into the form that was asked for ...")
    try:
        words = ["--system-prompt", FORMATTER, "--no-tools"]
        formatted = turn(run, words, compose_format_prompt(task, answer), "it took too long")
        if not formatted.strip():
            raise Failure(NO_ANSWER, "the model said nothing")
        if formatted.strip() != answer.strip():
            output.keep_first(run.printer.without_secrets(answer))
            output.write_response(run.printer.without_secrets(formatted))
    except (Failure, OSError) as failure:
        run.printer.say(f"that failed, so the answer stays as it was: {failure}")


def turn(run: Run, words: list[str], prompt: str, out_of_time: str) -> str:
    """One run of pi, and the answer that it gave.

    The prompt comes by standard input: as an argument, `@` or `-` at its beginning means something. The model is named
    once more, since pi takes another one where it doesn't know the one in settings.json.
    """
    run.signals.check()
    conversation = Conversation(run.printer.say, run.model.endpoint)
    command = [*PI, "--provider", run.model.provider, "--model", run.model.id, *words]
    with tempfile.TemporaryFile(dir=run.private) as stdin:
        stdin.write(prompt.encode())
        stdin.seek(0)
        job = process.Job(command, stdin, run.environment, run.deadline, conversation.feed, conversation.feed_error)
        ended = process.run(job, run.signals)
    run.printer.say(conversation.summary())
    run.signals.check()
    if not ended.in_time:
        raise Failure(OUT_OF_TIME, out_of_time)
    trouble = conversation.trouble()
    if ended.status < 0:
        raise Failure(128 - ended.status, killed(-ended.status))
    if ended.status != 0:
        words = conversation.last_words or trouble or "it gave no reason"
        raise Failure(ended.status, f"pi exited with {ended.status}: {words}")
    if trouble is not None:
        raise Failure(NO_ANSWER, trouble)
    return conversation.answer


def killed(number: int) -> str:
    """What it means that a signal has ended pi; shells show that as a status of 128 and its number."""
    hints = {
        signal.SIGKILL: "; the kernel does that where memory runs out (`memory_limit`), or a tool did it",
        signal.SIGABRT: "; it does that itself where it gets no more memory or processes (`memory_limit`, `pids_limit`)",
    }
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = "a signal that has no name"
    return f"pi was ended by signal {number} ({name}){hints.get(number, '')}"


if __name__ == "__main__":
    sys.exit(main())
