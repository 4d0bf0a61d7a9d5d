"""output/response.md: the answer as a file, which is there after every success.

The folder is in the hands of what the model has started, so nothing here follows a link, and a file that agent-core
wouldn't deliver doesn't count as one.
"""

import os
import secrets
import stat
from pathlib import Path

from failure import NO_ANSWER, Failure

NAME = "response.md"
# Where the answer of the first turn stays when a second one has changed its form, unless the task has a file there.
FIRST_NAMES = ("response.original.md", *(f"response.original-{number}.md" for number in range(2, 100)))
# So much is looked at to see whether there is more than white space in it.
LOOKED_AT = 1024 * 1024


class Output:
    """The folder `output/` of the workspace."""

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / "output"
        try:
            # A custom image may have no agent-core in front of it that makes the folder.
            self._path.mkdir(exist_ok=True)
            self._folder = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(NO_ANSWER, f"{self._path} isn't a folder to write to: {error.strerror}") from None

    def has_response(self) -> bool:
        """Whether there is a `response.md` with something in it. A link or a folder of that name is an error."""
        try:
            mode = os.stat(NAME, dir_fd=self._folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(mode):
            raise Failure(NO_ANSWER, "output/response.md isn't a regular file, so it wouldn't be delivered")
        try:
            descriptor = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError as error:
            raise Failure(NO_ANSWER, f"output/response.md can't be read: {error.strerror}") from None
        with os.fdopen(descriptor, "rb") as file:
            return bool(file.read(LOOKED_AT).strip())

    def write_response(self, text: str) -> None:
        """Puts the answer there, whole or not at all."""
        self._write(NAME, text)

    def keep_first(self, text: str) -> None:
        """Puts the answer of the first turn beside the one that is delivered."""
        for name in FIRST_NAMES:
            try:
                os.stat(name, dir_fd=self._folder, follow_symlinks=False)
            except FileNotFoundError:
                return self._write(name, text)
        raise Failure(NO_ANSWER, "output/ is full of files that are called like the first answer")

    def _write(self, name: str, text: str) -> None:
        temporary = f".{name}.{secrets.token_hex(8)}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o644, dir_fd=self._folder)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
                file.write(text if text.endswith("\n") else text + "\n")
            os.rename(temporary, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError as error:
            try:
                # A part of it would be delivered.
                os.unlink(temporary, dir_fd=self._folder)
            except OSError:
                pass
            raise Failure(NO_ANSWER, f"output/{name} can't be written: {error.strerror}") from None
