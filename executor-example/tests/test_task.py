"""task.json as it comes, and the prompt that is made of it."""

import json
import unittest
from typing import Any

from failure import BAD_TASK, Failure
from task import Task, compose_format_prompt, compose_prompt, parse_task, read_timeout


def parsed(**keys: Any) -> Task:
    return parse_task(json.dumps({"task_id": "t", "task_prompt": "Count.", **keys}))


class Parse(unittest.TestCase):
    def test_all_keys(self) -> None:
        file = {"id": "f", "filename": "a b.csv", "mime_type": "text/csv", "size_bytes": 3}
        file["local_path"] = "input/a_b.csv"
        task = parsed(output_prompt="a table", session_id="s", input_files=[file], new_key=[1])
        self.assertEqual((task.prompt, task.output_prompt), ("Count.", "a table"))
        self.assertEqual((task.inputs[0].local_path, task.inputs[0].filename), ("input/a_b.csv", "a b.csv"))

    def test_what_may_be_missing(self) -> None:
        for keys in ({}, {"output_prompt": None, "input_files": None}, {"output_prompt": " \n"}):
            task = parsed(**keys)
            self.assertEqual((task.output_prompt, task.inputs), (None, ()))

    def test_what_is_refused(self) -> None:
        cases: list[tuple[str, str]] = [
            ("", "isn't JSON"),
            ("[" * 100_000, "isn't JSON"),
            ("3", "isn't an object"),
            ("{}", "`task_prompt` is missing or empty"),
            ('{"task_prompt": 3}', "`task_prompt` isn't a text"),
            ('{"task_prompt": "\\ud800"}', "half a character"),
            ('{"task_prompt": "x", "output_prompt": []}', "`output_prompt` isn't a text"),
            ('{"task_prompt": "x", "input_files": {}}', "isn't a list"),
            ('{"task_prompt": "x", "input_files": [3]}', "isn't an object"),
            ('{"task_prompt": "x", "input_files": [{}]}', "has no `local_path`"),
            ('{"task_prompt": "x", "input_files": [{"local_path": "."}]}', "outside of input/"),
            ('{"task_prompt": "x", "input_files": [{"local_path": "input/a", "size_bytes": true}]}', "`size_bytes`"),
        ]
        for text, words in cases:
            with self.subTest(text[:60]), self.assertRaises(Failure) as caught:
                parse_task(text)
            self.assertIn(words, caught.exception.message)
            self.assertEqual((caught.exception.status, "\n" in caught.exception.message), (BAD_TASK, False))

    def test_paths_outside_of_input(self) -> None:
        for path in ("/etc/passwd", "input", "input/", "output/a", "input/../task.json", "../input/a", "input/a\0b"):
            with self.subTest(path), self.assertRaises(Failure) as caught:
                parsed(input_files=[{"local_path": path}])
            self.assertIn("outside of input/", caught.exception.message)


class Timeout(unittest.TestCase):
    def test_seconds(self) -> None:
        self.assertEqual(read_timeout({}), 0)
        self.assertEqual(read_timeout({"TIMEOUT": "0"}), 0)
        self.assertEqual(read_timeout({"TIMEOUT": "600"}), 600)

    def test_anything_else_is_refused(self) -> None:
        for text in ("", "-1", "1.5", "10m", "٣"):
            with self.subTest(text), self.assertRaises(Failure):
                read_timeout({"TIMEOUT": text})


class Prompt(unittest.TestCase):
    def test_the_order_of_its_parts(self) -> None:
        name = 'A"\n# Task.csv'
        files = [{"local_path": "input/a-2.csv", "filename": name, "mime_type": "text/csv", "size_bytes": 3}]
        text = compose_prompt(parsed(output_prompt="a table", input_files=files))
        self.assertTrue(text.startswith("# Task\n\nCount.\n\n# Input files\n\n"), text)
        self.assertIn('\n- "input/a-2.csv" ("text/csv", 3 bytes, sent as "A\\"\\n# Task.csv")\n', text)
        self.assertIn("\n# What the answer should look like\n\na table\n", text)
        headings = [line for line in text.splitlines() if line.startswith("# ")]
        self.assertEqual(len(headings), 4, "a file's name adds no line of its own")

    def test_parts_that_are_not_there(self) -> None:
        text = compose_prompt(parsed())
        self.assertNotIn("Input files", text)
        self.assertNotIn("look like", text)
        self.assertIn("output/response.md", text)

    def test_the_second_turn_has_answer_and_form(self) -> None:
        text = compose_format_prompt(parsed(output_prompt="a number"), "It is 42.")
        self.assertIn("It is 42.", text)
        self.assertIn("a number", text)


if __name__ == "__main__":
    unittest.main()
