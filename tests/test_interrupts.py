"""Ctrl-C counts even where a library swallows it."""

import signal
from collections.abc import Iterator

import pytest

from onnxgru.interrupts import Interrupts


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
