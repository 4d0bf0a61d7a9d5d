"""What pi tells: lines for a person, and whether there is an answer."""

import json
import unittest
from typing import Any

from events import Conversation


def told(*events: Any) -> tuple[Conversation, list[str]]:
    """A conversation after these events, and what it said; a text is a line as it is."""
    lines: list[str] = []
    conversation = Conversation(lines.append, "http://model")
    for event in events:
        conversation.feed((event if isinstance(event, str) else json.dumps(event)).encode())
    return conversation, [line for line in lines if line]


def message(text: str = "", reason: str = "stop", **more: Any) -> dict[str, Any]:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}] if text else []
    return {"type": "message_end", "message": {"role": "assistant", "content": content, "stopReason": reason, **more}}


def delta(text: str) -> dict[str, Any]:
    return {"type": "message_update", "assistantMessageEvent": {"type": "text_delta", "delta": text}}


class Outcome(unittest.TestCase):
    def test_the_last_message_is_the_answer(self) -> None:
        conversation, _ = told(message("First.", "toolUse"), message("Last."), {"type": "agent_end"})
        self.assertEqual((conversation.answer, conversation.trouble()), ("Last.", None))

    def test_what_is_no_answer(self) -> None:
        cases = [
            ((), "without having asked"),
            ((message("half", "length"),), "cut off"),
            ((message("", "error", errorMessage="500 broken"),), "endpoint (http://model) failed: 500 broken"),
            ((message("", "aborted"),), "failed: aborted"),
            ((message("first"), message("", "toolUse")), "in the middle of its work (toolUse)"),
            ((message("x", "something new"),), "something new"),
        ]
        for events, words in cases:
            with self.subTest(words):
                trouble = told(*events)[0].trouble()
                self.assertIn(words, trouble or "")

    def test_a_failure_that_was_overcome_is_none(self) -> None:
        conversation, lines = told(
            message("", "error", errorMessage="500"),
            {"type": "auto_retry_start", "attempt": 1, "maxAttempts": 3, "delayMs": 2500, "errorMessage": "500 broken"},
            message("Here."),
        )
        self.assertIsNone(conversation.trouble())
        self.assertEqual(lines, ["http://model failed: 500 broken; trying again in 2.5 s (1 of 3)"])

    def test_what_others_write_to_its_output_is_no_error(self) -> None:
        hostile = ['"text"', "3", "null", "[]", "{}", "\ufffd", "[" * 100_000, '{"type": "message_end"}']
        hostile += ['{"type": "message_end", "message": {"role": "assistant", "content": [3, {"type": "text"}]}}']
        hostile += ['{"type": "message_end", "message": {"role": "assistant", "usage": {"input": 1e999}}}']
        hostile += ['{"type": "message_update", "assistantMessageEvent": {"type": "text_delta", "delta": 3}}']
        hostile += ['{"type": "tool_execution_start", "args": [1]}', '{"type": "tool_execution_end", "result": 3}']
        hostile += ['{"type": "auto_retry_start", "delayMs": "soon"}', '{"type": ["message_end"]}']
        conversation, _ = told(*hostile, message("Answer."))
        self.assertEqual((conversation.answer, conversation.trouble()), ("Answer.", None))


class Progress(unittest.TestCase):
    def test_text_comes_in_whole_lines(self) -> None:
        _, lines = told(delta("Fir"), delta("st.\nSec"), delta("ond."), message("First.\nSecond."))
        self.assertEqual(lines, ["First.", "Second."])

    def test_a_tool_is_a_line_when_it_begins_and_one_when_it_ends(self) -> None:
        call = {"type": "tool_execution_start", "toolCallId": "1", "toolName": "bash", "args": {"command": "ls\npwd"}}
        failed = {"content": [{"type": "text", "text": "\nls: no such file\n"}]}
        ends = {"type": "tool_execution_end", "toolCallId": "1", "isError": True, "result": failed}
        _, lines = told(call, ends, {"type": "tool_execution_end", "toolCallId": "2", "isError": False})
        self.assertEqual(lines[0], "> bash ls ...")
        self.assertRegex(lines[1], r"^  failed after \d+\.\d s: ls: no such file$")
        self.assertEqual(lines[2], "  done")

    def test_what_is_no_event_is_shown_as_it_is(self) -> None:
        self.assertEqual(told("Warning: old file")[1], ["pi: Warning: old file"])

    def test_its_standard_error_is_shown_and_its_end_kept(self) -> None:
        conversation, _ = told()
        for line in (b"Warning: old\n", b"Error: \xff", b"  "):
            conversation.feed_error(line)
        self.assertEqual(conversation.last_words, "Error: \ufffd")

    def test_tokens_are_added_up(self) -> None:
        usage = {"input": 10, "cacheRead": 5, "cacheWrite": 1, "output": 3}
        conversation, _ = told(message("a", usage=usage), message("b", usage=usage))
        self.assertEqual(conversation.summary(), "2 message(s) of the model, 32 tokens in and 6 out")


if __name__ == "__main__":
    unittest.main()
