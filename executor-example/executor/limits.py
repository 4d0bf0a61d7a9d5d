"""How long things may take."""

# So long a finished answer waits for its form, whatever the task's own limit is.
FORMAT_SECS = 300.0


def own_deadline(timeout: int, now: float) -> float | None:
    """When this program ends the task itself, so that it can still say why: a tenth earlier, at most 30 s."""
    return None if timeout == 0 else now + timeout - min(30.0, timeout / 10)


def format_deadline(deadline: float | None, now: float) -> float:
    """When the turn that only changes the form of an answer is given up."""
    until = now + FORMAT_SECS
    return until if deadline is None else min(deadline, until)
