"""What is printed, and response.md."""

import os
import tempfile
import unittest
from pathlib import Path

from failure import Failure
from lines import Lines
from response import Output
from text import Printer, one_line


class Stream(unittest.TestCase):
    def test_lines_in_pieces(self) -> None:
        lines = Lines()
        fed = [lines.feed(piece) for piece in (b"a", b"b\nc\u2028\r\n\n", b"", b"d")]
        self.assertEqual((fed, lines.finish(), lines.finish()), ([[], [b"ab", b"c\u2028\r"], [], []], [b"d"], []))

    def test_a_line_without_end_is_left_out_and_the_next_one_is_not(self) -> None:
        lines = Lines(longest=4)
        fed = [lines.feed(piece) for piece in (b"1234\n123", b"45", b"6\n12", b"34\n12345")]
        self.assertEqual((fed, lines.finish()), ([[b"1234"], [], [], [b"1234"]], []))


class Printed(unittest.TestCase):
    def test_nothing_that_a_terminal_obeys(self) -> None:
        self.assertEqual(one_line("a\x1b[31mb\rc\u202ed\u2028e\x00"), "a [31mb c d e")

    def test_long_ones_are_cut(self) -> None:
        self.assertEqual(one_line("x" * 400), "x" * 400)
        self.assertEqual(one_line("x" * 401), "x" * 399 + "…")

    def test_secrets_are_blotted_out_the_longest_first(self) -> None:
        printer = Printer(["sk-12345", "sk-12345-more", "short"])
        self.assertEqual(printer.without_secrets("sk-12345-more sk-12345 short"), "*** *** short")


class Response(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.workspace = Path(folder.name)
        self.path = self.workspace / "output/response.md"

    def test_the_folder_is_made_where_it_is_missing(self) -> None:
        output = Output(self.workspace)
        self.assertFalse(output.has_response())
        output.write_response("x")
        self.assertEqual((self.path.read_text(), output.has_response()), ("x\n", True))
        self.assertEqual(os.listdir(self.workspace / "output"), ["response.md"])

    def test_white_space_is_no_response(self) -> None:
        output = Output(self.workspace)
        self.path.write_text(" \n\t\n")
        self.assertFalse(output.has_response())

    def test_a_link_is_refused_and_never_written_through(self) -> None:
        output = Output(self.workspace)
        victim = self.workspace / "victim"
        victim.write_text("as it was")
        self.path.symlink_to(victim)
        self.assertRaises(Failure, output.has_response)
        (self.workspace / "output/.response.md.new").symlink_to(victim)
        output.write_response("x")
        self.assertEqual((self.path.read_text(), victim.read_text()), ("x\n", "as it was"))
        self.assertFalse(self.path.is_symlink())

    def test_a_pipe_does_not_hold_it_up(self) -> None:
        output = Output(self.workspace)
        os.mkfifo(self.path)
        self.assertRaises(Failure, output.has_response)

    def test_a_folder_that_is_a_link_is_refused(self) -> None:
        (self.workspace / "output").symlink_to("/tmp")
        self.assertRaises(Failure, Output, self.workspace)


if __name__ == "__main__":
    unittest.main()
