import numpy as np
import pytest

from onnxgru.core.errors import UsageError
from onnxgru.search.genome import Gene, Space

SPACE = Space((Gene("a", (2, 3, 4)), Gene("b", (4, 8)), Gene("c", (5,))))


def test_size_decode_encode():
    assert SPACE.size == 6
    assert SPACE.decode((3, 8, 5)) == {"a": 3, "b": 8, "c": 5}
    assert SPACE.encode({"c": 5, "b": 8, "a": 3}) == (3, 8, 5)
    assert SPACE.positions((3, 8, 5)) == (1, 1, 0)
    assert SPACE.at((1, 1, 0)) == (3, 8, 5)


def test_uniform_takes_the_nearest_choice_and_the_larger_of_two():
    assert SPACE.uniform(3) == (3, 4, 5)
    assert SPACE.uniform(6) == (4, 8, 5)
    assert SPACE.uniform(16) == (4, 8, 5)


def test_random_is_uniform_and_seeded():
    generator = np.random.default_rng(1)
    drawn = [SPACE.random(generator) for _ in range(600)]
    counts = {genome: drawn.count(genome) for genome in drawn}
    assert len(counts) == SPACE.size
    assert min(counts.values()) > 70
    again = np.random.default_rng(1)
    assert drawn == [SPACE.random(again) for _ in range(600)]
    assert all(type(value) is int for value in drawn[0])


def test_following_visits_every_genome_once():
    genome, visited = (3, 8, 5), []
    for _ in range(SPACE.size):
        visited.append(genome)
        genome = SPACE.following(genome)
    assert genome == (3, 8, 5)
    assert len(set(visited)) == SPACE.size
    assert visited[1] == (4, 4, 5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Gene("", (2,)), "must have a name"),
        (lambda: Gene("a", ()), r"gene 'a' must be at least one integer.*got \(\)"),
        (lambda: Gene("a", (3, 2)), "strictly ascending"),
        (lambda: Gene("a", (2, 2)), "strictly ascending"),
        (lambda: Gene("a", (2.0, 3)), "integer"),
        (lambda: Space(()), "at least one gene"),
        (lambda: Space((Gene("a", (2,)), Gene("a", (3,)))), r"different names, got \['a'\]"),
        (lambda: SPACE.validate((3, 8)), "must have 3 values.*got 2"),
        (lambda: SPACE.validate((3, 8, 5, 5)), "must have 3 values.*got 4"),
        (lambda: SPACE.validate((3, 5, 5)), r"gene 'b' must be one of \[4, 8\], got 5"),
        (lambda: SPACE.decode((9, 8, 5)), "gene 'a'"),
        (lambda: SPACE.positions((9, 8, 5)), "gene 'a'"),
        (lambda: SPACE.encode({"a": 3, "b": 8}), r"missing \['c'\].*genes are"),
        (lambda: SPACE.encode({"a": 3, "b": 8, "c": 5, "d": 1}), r"unknown \['d'\]"),
        (lambda: SPACE.encode({"a": 3, "b": 8, "c": 6}), "gene 'c'"),
    ],
)
def test_errors(call, words):
    with pytest.raises(UsageError, match=words):
        call()
