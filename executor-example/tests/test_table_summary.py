"""The script of the sample skill."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent.parent / "agent/skills/table-summary/scripts/summarise.py"


def run(data: bytes, *words: str) -> "subprocess.CompletedProcess[str]":
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(data)
        file.flush()
        command = [sys.executable, "-B", str(SCRIPT), *words, file.name]
        return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def columns(data: str) -> dict[str, dict[str, Any]]:
    done = run(data.encode(), "--json")
    return {column["column"]: column for column in json.loads(done.stdout)["columns"]}


class Summary(unittest.TestCase):
    def test_numbers_texts_and_gaps(self) -> None:
        found = columns("n,t,e\n1,a,\n, b ,\n-2.5e1,a,\n")
        expected = {"type": "number", "missing": 1, "distinct": 2, "min": -25, "max": 1, "mean": -12, "median": -12}
        self.assertEqual({key: found["n"][key] for key in expected}, expected)
        self.assertEqual((found["t"]["type"], found["t"]["examples"]), ("text", ["a", "b"]))
        self.assertEqual((found["e"]["type"], found["e"]["missing"]), ("empty", 3))

    def test_what_is_no_number(self) -> None:
        for cell in ("nan", "inf", "1_000", "1,5", "3 kg", "0x10"):
            with self.subTest(cell):
                self.assertEqual(columns(f"n;m\n1;1\n{cell};2\n")["n"]["type"], "text")

    def test_every_delimiter(self) -> None:
        for delimiter in ",;\t|":
            self.assertEqual(list(columns(f"a{delimiter}b\n1{delimiter}2\n")), ["a", "b"])
        self.assertEqual(list(columns("only\n1\n")), ["only"])

    def test_uneven_rows_are_counted_and_a_mark_is_no_part_of_a_name(self) -> None:
        done = run("\ufeffa,b\n1\n1,2,3\n1,2\n\n".encode(), "--json")
        summary = json.loads(done.stdout)
        self.assertEqual((summary["rows"], summary["uneven_rows"], summary["columns"][0]["column"]), (3, 2, "a"))

    def test_markdown_keeps_its_columns(self) -> None:
        done = run(b'a\n"x|y"\n')
        self.assertIn("| a | text | 0 | 1 |  |  |  |  | x\\|y |", done.stdout)

    def test_what_is_no_table_is_one_line_and_exit_status_1(self) -> None:
        for data, words in ((b"", "is empty"), (b"\xff\xfe", "can't decode")):
            done = run(data)
            self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1))
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
