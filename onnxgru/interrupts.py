"""Ctrl-C that is not lost: libraries that swallow it while they are imported do not keep it."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupts:
    """Remembers that the user has interrupted; does nothing beside the main thread."""

    def __init__(self) -> None:
        self._caught = False
        self._active = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._active = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._active:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._caught = True
        signal.default_int_handler(number, frame)

    def check(self) -> None:
        """Raise KeyboardInterrupt where one has been swallowed."""
        if self._caught:
            self.heed()
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Forget the interrupt: it has arrived."""
        self._caught = False
