"""The entry point of the image: reads the task, lets pi do it, and sees to it that there is an answer."""

import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import config
import process
from events import Conversation
from failure import BAD_CONFIGURATION, NO_ANSWER, OUT_OF_TIME, Failure
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
    signals = process.Signals()
    printer = Printer()
    private: Path | None = None
    try:
        timeout = read_timeout(os.environ)
        deadline = own_deadline(timeout, time.monotonic())
        task = read_task(WORKSPACE)
        config.check_agent(AGENT)
        private = make_private_folder()
        config.copy_configuration(config.MOUNTED, private / "pi-agent")
        model = config.read_model(private / "pi-agent", config.MOUNTED, os.environ)
        printer.add_secrets(model.secrets)
        printer.say(f"asking {model.provider}/{model.id}, with {len(task.inputs)} input file(s)")
        os.chdir(WORKSPACE)
        do_task(task, timeout, Run(private, model, environment(private), signals, deadline, printer))
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


def own_deadline(timeout: int, now: float) -> float | None:
    """When this program ends the task itself, so that it can still say why: a tenth earlier, at most 30 s."""
    return None if timeout == 0 else now + timeout - min(30.0, timeout / 10)


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


def do_task(task: Task, timeout: int, run: Run) -> None:
    """The first turn does the task; a second one may bring its answer into the form that was asked for."""
    system = ["--system-prompt", str(AGENT / "AGENT.md"), "--skill", str(AGENT / "skills"), "--tools", TOOLS]
    answer = turn(run, system, compose_prompt(task), timeout)
    output = Output(WORKSPACE)
    if output.has_response():
        run.printer.say("done; the model wrote output/response.md itself")
        return
    if not answer.strip():
        raise Failure(NO_ANSWER, "the model's answer is empty, and it wrote no output/response.md")
    output.write_response(run.printer.without_secrets(answer))
    if task.output_prompt is not None and os.environ.get("FORMAT_TURN", "on") != "off":
        format_answer(task, answer, output, run, timeout)
    run.printer.say("done; the answer is in output/response.md")


def format_answer(task: Task, answer: str, output: Output, run: Run, timeout: int) -> None:
    """Changes the form of the answer. Whatever goes wrong here, the answer itself is there already."""
    run.printer.say("bringing the answer into the form that was asked for ...")
    try:
        words = ["--system-prompt", FORMATTER, "--no-tools"]
        formatted = turn(run, words, compose_format_prompt(task, answer), timeout)
        if not formatted.strip():
            raise Failure(NO_ANSWER, "the model said nothing")
        if formatted.strip() != answer.strip():
            output.keep_first(run.printer.without_secrets(answer))
            output.write_response(run.printer.without_secrets(formatted))
    except (Failure, OSError) as failure:
        run.signals.check()
        run.printer.say(f"that failed, so the answer stays as it was: {failure}")


def turn(run: Run, words: list[str], prompt: str, timeout: int) -> str:
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
        raise Failure(OUT_OF_TIME, f"not done within the {timeout} s that a task may take (TIMEOUT)")
    trouble = conversation.trouble()
    if ended.status != 0:
        # A negative one is a signal's, which shells show as 128 and its number.
        status = ended.status if ended.status > 0 else 128 - ended.status
        raise Failure(status, f"pi exited with {status}: {conversation.last_words or trouble or 'it gave no reason'}")
    if trouble is not None:
        raise Failure(NO_ANSWER, trouble)
    return conversation.answer


if __name__ == "__main__":
    sys.exit(main())
