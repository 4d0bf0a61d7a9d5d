"""Deadlines."""

import unittest

from limits import format_deadline, own_deadline


class Deadlines(unittest.TestCase):
    def test_the_task_ends_a_little_earlier(self) -> None:
        self.assertIsNone(own_deadline(0, 100.0))
        self.assertEqual(own_deadline(20, 100.0), 118.0)
        self.assertEqual(own_deadline(3600, 100.0), 3670.0)

    def test_a_finished_answer_never_waits_for_long(self) -> None:
        self.assertEqual(format_deadline(None, 100.0), 400.0)
        self.assertEqual(format_deadline(150.0, 100.0), 150.0)
        self.assertEqual(format_deadline(9000.0, 100.0), 400.0)


if __name__ == "__main__":
    unittest.main()
