"""Lines out of a stream of bytes."""

# Far longer than any event that is looked at. One that is longer is left out whole: a program that prints without end
# and without a line feed must not fill the memory.
LONGEST = 64 * 1024 * 1024


class Lines:
    """Takes pieces as they come and gives whole lines.

    Only a line feed ends a line: other separators may stand in the texts of pi's events.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece ends."""
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            self._add(end)
            lines += self.finish()
        self._add(rest)
        return lines

    def finish(self) -> list[bytes]:
        """What is there of the line that has been begun; none where there is nothing, or too much."""
        line = b"".join(self._pieces)
        is_whole = 0 < self._size <= self._longest
        self._pieces, self._size = [], 0
        return [line] if is_whole else []

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size <= self._longest:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
