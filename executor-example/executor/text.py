"""What is printed: whole lines, nothing that a terminal would obey, and no key."""

import sys
import unicodedata
from collections.abc import Iterable

# A line of progress is for a person who watches; the files hold the rest.
LONGEST_LINE = 400
# Shorter ones could be any word, and blotting that out everywhere would only be confusing.
SHORTEST_SECRET = 8


class Printer:
    """Writes progress to standard output and the reason of a failure to standard error."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self.add_secrets(secrets)

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """From now on these are printed as `***`."""
        known = {*self._secrets, *(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)}
        # A secret that is part of another one comes after it.
        self._secrets = sorted(known, key=len, reverse=True)

    def without_secrets(self, text: str) -> str:
        """The text with `***` for every secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def say(self, text: str) -> None:
        """A line of progress for each line of the text."""
        for line in text.splitlines():
            if line.strip():
                print(one_line(self.without_secrets(line)), flush=True)

    def complain(self, message: str) -> None:
        """The one line that tells why the task has failed."""
        print(one_line(self.without_secrets(message), longest=2000), file=sys.stderr, flush=True)


def one_line(text: str, longest: int = LONGEST_LINE) -> str:
    """The text in one line, without control characters and no longer than that."""
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text).rstrip()
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
