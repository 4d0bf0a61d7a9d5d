"""What pi tells while it works (`--mode json`), turned into lines for a person and into the outcome.

pi's exit status alone says too little: in this mode it is 0 also when the model's endpoint failed, and in every mode
when an answer was cut off. So the outcome is read from the events. They are not trusted: whatever the model starts can
write to pi's output, so an event that isn't as expected is passed over and never an error.
"""

import json
import time
from collections.abc import Callable
from typing import Any


class Conversation:
    """One run of pi, as far as it has got."""

    def __init__(self, say: Callable[[str], None], endpoint: str) -> None:
        self._say = say
        self._endpoint = endpoint
        self._last_words = ""
        self._last_error = ""
        self._line = ""
        self._began: dict[str, float] = {}
        self._tokens = {"input": 0, "output": 0}
        self._messages = 0
        self._last: dict[str, Any] | None = None

    def feed_error(self, line: bytes) -> None:
        """Takes one line of pi's standard error."""
        text = line.decode("utf-8", "replace").strip()
        if not text:
            return
        self._say(f"pi: {text}")
        if "Error" in text:
            self._last_error = text
        # What node prints around an error and after it says nothing by itself.
        if not text.startswith(("Node.js v", "at ", "}", "^", "Warning:")):
            self._last_words = text

    def feed(self, line: bytes) -> None:
        """Takes one line of pi's output."""
        text = line.decode("utf-8", "replace").strip()
        if not text:
            return
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            self._say(f"pi: {text}")
            return
        kind = _get(event, "type")
        if kind == "message_update":
            self._update(_get(event, "assistantMessageEvent"))
        elif kind == "message_end":
            self._message(_get(event, "message"))
        elif kind == "tool_execution_start":
            self._tool_begins(event)
        elif kind == "tool_execution_end":
            self._tool_ends(event)
        elif kind == "auto_retry_start":
            delay = _number(event, "delayMs") / 1000
            self._say(
                f"{self._endpoint} failed: {_get(event, 'errorMessage')}; trying again in {delay:g} s "
                f"({_get(event, 'attempt')} of {_get(event, 'maxAttempts')})"
            )
        elif kind == "compaction_start":
            self._say("the conversation has become long; summarising its older part ...")

    @property
    def last_words(self) -> str:
        """Why pi has ended, as far as its standard error tells."""
        return self._last_error or self._last_words

    @property
    def answer(self) -> str:
        """The text of the last message, empty where it has none."""
        return _texts(self._last)

    def trouble(self) -> str | None:
        """Why the last message is no answer; `None` where it may be one."""
        reason = _get(self._last, "stopReason")
        if self._last is None:
            return "pi ended without having asked the model"
        if reason == "length":
            return (
                "the model's answer was cut off at its limit of output tokens (finish_reason length); a larger "
                "`maxTokens` in models.json or a shorter task helps"
            )
        if reason in ("error", "aborted"):
            return f"the model's endpoint ({self._endpoint}) failed: {_get(self._last, 'errorMessage') or reason}"
        if reason != "stop":
            return f"the model stopped in the middle of its work ({reason})"
        return None

    def summary(self) -> str:
        """What it took."""
        tokens = f"{self._tokens['input']} tokens in and {self._tokens['output']} out"
        return f"{self._messages} message(s) of the model, {tokens}"

    def _update(self, update: Any) -> None:
        kind = _get(update, "type")
        if kind == "text_delta":
            delta = _get(update, "delta")
            self._line += delta if isinstance(delta, str) else ""
            *lines, self._line = self._line.split("\n")
            for line in lines:
                self._say(line)
        elif kind == "text_end":
            self._end_line()
        elif kind == "thinking_start":
            self._say("(thinking)")

    def _end_line(self) -> None:
        line, self._line = self._line, ""
        self._say(line)

    def _message(self, message: Any) -> None:
        if _get(message, "role") != "assistant":
            return
        self._end_line()
        self._last = message
        self._messages += 1
        usage = _get(message, "usage")
        for kind in ("input", "cacheRead", "cacheWrite"):
            self._tokens["input"] += int(_number(usage, kind))
        self._tokens["output"] += int(_number(usage, "output"))

    def _tool_begins(self, event: Any) -> None:
        self._began[str(_get(event, "toolCallId"))] = time.monotonic()
        arguments = _get(event, "args")
        what = _get(arguments, "command") or _get(arguments, "path") or ""
        first, _, rest = str(what).strip().partition("\n")
        self._say(f"> {_get(event, 'toolName')} {first}{' ...' if rest else ''}")

    def _tool_ends(self, event: Any) -> None:
        began = self._began.pop(str(_get(event, "toolCallId")), None)
        took = f" after {time.monotonic() - began:.1f} s" if began is not None else ""
        if _get(event, "isError") is True:
            lines = [line for line in _texts(_get(event, "result")).splitlines() if line.strip()]
            self._say(f"  failed{took}: {lines[-1].strip() if lines else 'without a word'}")
        else:
            self._say(f"  done{took}")


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _number(value: Any, key: str) -> float:
    found = _get(value, key)
    return found if isinstance(found, int | float) and abs(found) < 1e15 else 0


def _texts(message: Any) -> str:
    """The text parts of a message or a tool's result, one after the other."""
    content = _get(message, "content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [_get(part, "text") for part in content if _get(part, "type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))
