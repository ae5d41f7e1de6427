"""The base of the errors that bad data raises."""

from __future__ import annotations

from comsl.errors import ComSLError


class DataError(ComSLError):
    """A file or row that cannot be used. The message is one line that names it and what to do about it."""

    def __init__(self, message: str = "") -> None:
        # A DataLoader worker's exception is built anew in the main process from its whole traceback, which ends
        # in "module.Class: message". Only the message is of use to somebody whose file is broken.
        marker = f"{type(self).__module__}.{type(self).__qualname__}: "
        if "Original Traceback" in message and marker in message:
            message = message.rsplit(marker, 1)[1].strip()
        super().__init__(message)


class CorpusError(DataError):
    """What lies there is not the corpus, or too little of it."""
