"""The task as agent-core hands it over: task.json, the environment, and the prompt that is made of them."""

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from failure import BAD_TASK, Failure


@dataclass(frozen=True)
class InputFile:
    """A file that came with the task; `local_path` is relative to the workspace."""

    local_path: str
    filename: str
    mime_type: str | None
    size_bytes: int


@dataclass(frozen=True)
class Task:
    """What is to be done, with what, and what the answer should look like."""

    prompt: str
    output_prompt: str | None
    inputs: tuple[InputFile, ...]


def bad(what: str) -> Failure:
    """A task that can't be understood is never guessed at."""
    return Failure(BAD_TASK, f"bad task.json: {what}")


def read_task(workspace: Path) -> Task:
    """Reads `task.json` and looks whether the input files are there."""
    path = workspace / "task.json"
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise bad(f"there is no {path}; is the task's folder mounted at {workspace}?") from None
    except OSError as error:
        raise bad(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise bad(f"it isn't UTF-8 at byte {error.start}") from None
    task = parse_task(text)
    for file in task.inputs:
        try:
            mode = (workspace / file.local_path).lstat().st_mode
        except OSError as error:
            raise bad(f"the input file {file.local_path!r}: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise bad(f"the input file {file.local_path!r} isn't a regular file")
    return task


def parse_task(text: str) -> Task:
    """Understands the text of a `task.json`, and refuses what the contract doesn't allow."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"it isn't JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad("it isn't an object")
    prompt = _text(value, "task_prompt")
    if prompt is None or not prompt.strip():
        raise bad("`task_prompt` is missing or empty, so there is nothing to do")
    output_prompt = _text(value, "output_prompt")
    if output_prompt is not None and not output_prompt.strip():
        output_prompt = None
    files = value.get("input_files")
    if files is None:
        files = []
    if not isinstance(files, list):
        raise bad("`input_files` isn't a list")
    return Task(prompt, output_prompt, tuple(_input_file(file) for file in files))


def _text(value: dict[str, Any], key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise bad(f"`{key}` isn't a text")
    try:
        (found or "").encode("utf-8")
    except UnicodeEncodeError:
        raise bad(f"`{key}` has half a character (a lone surrogate)") from None
    return found


def _input_file(value: Any) -> InputFile:
    if not isinstance(value, dict):
        raise bad("an entry of `input_files` isn't an object")
    local_path = _text(value, "local_path")
    if not local_path:
        raise bad("an input file has no `local_path`")
    parts = PurePosixPath(local_path).parts
    if len(parts) < 2 or parts[0] != "input" or ".." in parts or "\0" in local_path:
        raise bad(f"the input file {local_path!r} lies outside of input/")
    size = value.get("size_bytes", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise bad(f"`size_bytes` of {local_path!r} isn't a number of bytes")
    return InputFile(local_path, _text(value, "filename") or parts[-1], _text(value, "mime_type"), size)


def read_timeout(environment: Mapping[str, str]) -> int:
    """`TIMEOUT` in seconds; 0, or no such variable, is no limit."""
    text = environment.get("TIMEOUT", "0")
    if not (text.isascii() and text.isdigit()):
        raise Failure(BAD_TASK, f"TIMEOUT is {text!r}, which isn't a number of seconds")
    return int(text)


def compose_prompt(task: Task) -> str:
    """The first message to the model.

    It begins with a heading of ours: pi takes a message that begins with a slash for one of its own commands. What the
    contract asks of the model stands here and not in AGENT.md, which anybody may rewrite.
    """
    parts = [f"# Task\n\n{task.prompt}"]
    if task.inputs:
        lines = [_listed(file) for file in task.inputs]
        parts.append("# Input files\n\n" + "\n".join(lines))
    if task.output_prompt is not None:
        parts.append(f"# What the answer should look like\n\n{task.output_prompt}")
    parts.append(
        "# Where results go\n\n"
        "You work in the folder of this task, and nobody can answer questions. Write every file that the person should "
        "get into `output/`; put nothing else there, and keep temporary files under `$TMPDIR`. Your last message is "
        "delivered as `output/response.md`, so let it answer the task by itself and name the files that you wrote. "
        "Write `output/response.md` yourself only if the answer is too long for a message."
    )
    return "\n\n".join(parts) + "\n"


def _listed(file: InputFile) -> str:
    # Type and name are the sender's texts: quoted, they can't pass for lines of ours.
    about = [json.dumps(file.mime_type, ensure_ascii=False) if file.mime_type else "", f"{file.size_bytes} bytes"]
    if file.filename != PurePosixPath(file.local_path).name:
        about.append(f"sent as {json.dumps(file.filename, ensure_ascii=False)}")
    return f"- {json.dumps(file.local_path, ensure_ascii=False)} ({', '.join(filter(None, about))})"


def compose_format_prompt(task: Task, answer: str) -> str:
    """The message of the second turn, which changes the form of an answer and nothing else."""
    return (
        "# An answer\n\n"
        f"{answer}\n\n"
        "# What it should look like\n\n"
        f"{task.output_prompt}\n\n"
        "# What to do\n\n"
        "Reply with the answer above in the form that is asked for, and with nothing else. Keep every number, name and "
        "finding as it is; add nothing of your own. If it has that form already, repeat it unchanged.\n"
    )
