"""Ctrl-C is heard even where a library swallows it or works for a long time."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self, TypeVar

Found = TypeVar("Found")

_PATIENCE = 0.1
"""Seconds between two looks of the thread that waits."""


class AbandonedError(Exception):
    """Ends the thread of work that was interrupted."""


def attended(work: Callable[[Callable[[], None]], Found]) -> Found:
    """Do work that may stay in a library for minutes, and hear Ctrl-C all the time.

    Python hears a signal only between its own instructions, and onnxruntime may take minutes to
    load a long graph. So another thread does the work, and this one waits. After Ctrl-C the thread
    ends when it next calls the function that it is given; the end of the process does not wait.

    Parameters
    ----------
    work : callable
        The work. Its argument is a function to be called now and then, which ends the work after
        Ctrl-C.

    Raises
    ------
    KeyboardInterrupt
        At Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        return work(lambda: None)
    abandoned = threading.Event()
    found: list[Found] = []
    errors: list[BaseException] = []

    def proceed() -> None:
        if abandoned.is_set():
            raise AbandonedError

    def run() -> None:
        try:
            found.append(work(proceed))
        except AbandonedError:
            pass
        except BaseException as error:  # any: the waiting thread raises it
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_PATIENCE)
    except BaseException:
        abandoned.set()
        raise
    if errors:
        raise errors[0]
    return found[0]


class Interrupts:
    """Remembers Ctrl-C; does nothing outside of the main thread."""

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
        """Raise KeyboardInterrupt where a library has swallowed one."""
        if self._caught:
            self.heed()
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Forget the interrupt, because it has been handled."""
        self._caught = False
