"""An executor for evaluations that are done together instead of one beside the other."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, TypeVar

Result = TypeVar("Result")


class Batches(Executor):
    """Hands everything that `map` is given to one function, which answers in order.

    Parameters
    ----------
    together : callable
        ``together(items)`` gives, one after the other, what the function of `map` would give for
        every item.
    """

    def __init__(self, together: Callable[[Sequence[Any]], Iterable[Any]]) -> None:
        self._together = together

    def map(
        self,
        fn: Callable[..., Result],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[Result]:
        """Results of all items of one iterable; nothing runs before the first is asked for."""
        (items,) = iterables
        yield from self._together(list(items))
