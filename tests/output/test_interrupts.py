"""Ctrl-C counts even where a library swallows it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from onnxgru.output.interrupts import Interrupts, attended


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    """Python's own handler: shells start what runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_swallowed_interrupt_is_raised_at_the_next_check():
    with Interrupts() as interrupts:
        interrupts.check()
        try:
            signal.raise_signal(signal.SIGINT)
        except:  # noqa: E722 - what libraries do when they are imported
            pass
        else:
            pytest.fail("the interrupt was not raised at once")
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        interrupts.heed()
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_of_the_caller_is_left_alone():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_attended_work_returns_and_raises_as_it_does_alone():
    def failing(proceed: Callable[[], None]) -> None:
        raise ValueError("reason")

    assert attended(lambda proceed: 7) == 7
    with pytest.raises(ValueError, match="reason"):
        attended(failing)


def test_attended_work_is_abandoned_at_an_interrupt():
    """Work that hears no signal itself, as inside a library."""
    begun, ended, freed = threading.Event(), threading.Event(), threading.Event()

    def deaf(proceed: Callable[[], None]) -> None:
        begun.set()
        freed.wait(10)
        try:
            proceed()
        finally:
            ended.set()

    def interrupt() -> None:
        begun.wait(10)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        attended(deaf)
    assert time.monotonic() - before < 5
    assert not ended.is_set()
    freed.set()
    assert ended.wait(10)  # it ended where it was told that nobody waits


def test_attended_work_of_another_thread_is_done_in_it():
    found: list[bool] = []

    def work(proceed: Callable[[], None]) -> bool:
        proceed()
        return threading.current_thread() is thread

    thread = threading.Thread(target=lambda: found.append(attended(work)))
    thread.start()
    thread.join(10)
    assert found == [True]
