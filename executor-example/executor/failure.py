"""Why a task can't be done, as one line for the person who sent it or who runs this machine."""

# Exit statuses. 124 and 143 are those of timeout(1) and of a program that TERM has ended.
BAD_TASK = 2
BAD_CONFIGURATION = 3
NO_ANSWER = 1
OUT_OF_TIME = 124
ASKED_TO_END = 143


class Failure(Exception):
    """Ends the container with `status`; `message` becomes the last line of standard error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
