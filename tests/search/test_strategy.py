"""Exploration, then exploitation: where it searches, and that a seed still says everything."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from onnxgru.core.errors import UsageError
from onnxgru.search import nsga
from onnxgru.search.front import Member, front
from onnxgru.search.genome import Gene, Space
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import SearchSettings, search
from tests.search import toy

SPACE = Space(tuple(Gene(f"g{i}", toy.WIDTHS) for i in range(12)))
LIMIT = 0.05
SETTINGS = SearchSettings(population=12, generations=10, strategy="explore-exploit", limit=LIMIT)


def evaluate(genome):
    """Noise of 6 dB a bit from twelve operators, and their bits."""
    return Member(genome, (sum(4.0**-bits for bits in genome), sum(genome)))


def run(settings=SETTINGS, **options):
    return search(SPACE, evaluate, settings, seeds=[SPACE.uniform(8)], **options)


def share_within(members):
    return sum(member.objectives[0] <= LIMIT for member in members) / len(members)


def test_exploitation_stays_within_the_limit():
    members = run(replace(SETTINGS, population=20, generations=20))
    explored, last = members[: 20 * 10], members[-20 * 5 :]
    assert share_within(last) > 0.5 > share_within(explored)
    plain = run(replace(SETTINGS, population=20, generations=20, strategy="plain"))
    assert share_within(last) > share_within(plain[-20 * 5 :]) + 0.2


def test_exploitation_finds_smaller_members_within_the_limit():
    def smallest(strategy, seed):
        settings = SearchSettings(20, 20, seed, strategy, LIMIT)
        return min(m.objectives[1] for m in run(settings) if m.objectives[0] <= LIMIT)

    ours, plain = (
        sum(smallest(strategy, seed) for seed in range(5))
        for strategy in ("explore-exploit", "plain")
    )
    assert ours < plain


def test_front_ignores_the_limit():
    members = run()
    assert all(member.violation == 0 for member in members)
    assert min(m.objectives[1] for m in front(members)) < min(
        m.objectives[1] for m in members if m.objectives[0] <= LIMIT
    )


def test_exploration_draws_at_random():
    def strangers(strategy):
        """Genomes of the tenth generation that differ from all before them in most genes."""
        settings = replace(SETTINGS, population=40, generations=20, strategy=strategy)
        genomes = [member.genome for member in run(settings)[:400]]
        nearest = [
            min(sum(x != y for x, y in zip(new, old, strict=True)) for old in genomes[:360])
            for new in genomes[360:]
        ]
        return sum(distance > 5 for distance in nearest)

    assert strangers("explore-exploit") >= 3 > strangers("plain")


@pytest.mark.parametrize("limit", [0.0, LIMIT, float("inf")])
def test_seed_and_workers(limit):
    settings = replace(SETTINGS, limit=limit)
    whole = run(settings)
    assert len({member.genome for member in whole}) == len(whole) == settings.evaluations
    assert run(settings) == whole
    with ThreadPoolExecutor(3) as workers:
        assert run(settings, workers=workers) == whole
    assert run(replace(settings, seed=1)) != whole


def test_interrupted_searches_end_alike(tmp_path):
    whole = run()
    for stop in range(5, SETTINGS.evaluations, 23):
        path = tmp_path / f"{stop}.jsonl"
        asked = []

        def failing(genome, stop=stop, asked=asked):
            asked.append(genome)
            if len(asked) > stop:
                raise KeyboardInterrupt
            return evaluate(genome)

        arguments = path, toy.KEY, SPACE.genes, toy.OBJECTIVES
        with Journal.create(*arguments) as journal, pytest.raises(KeyboardInterrupt):
            search(SPACE, failing, SETTINGS, seeds=[SPACE.uniform(8)], journal=journal)
        with Journal.resume(*arguments) as journal:
            assert len(journal.members) == stop
            assert run(journal=journal) == whole


def test_small_spaces_are_used_up():
    settings = SearchSettings(population=40, generations=61, strategy="explore-exploit", limit=0.05)
    members = search(toy.SPACE, toy.evaluate, settings)
    assert len(members) == toy.SPACE.size < settings.evaluations
    expected = sorted(toy.exact(), key=lambda point: point[1])
    assert [m.objectives for m in front(members)] == expected


def test_best_are_whole_fronts():
    members = [Member((i,), (float(i), float(-i if i < 3 else 5))) for i in range(6)]
    infeasible = Member((9,), (0.0, -9.0), violation=1.0)
    assert nsga._best([infeasible, *members], 2) == tuple(members[2::-1])
    assert nsga._best([infeasible, *members], 4) == (*members[2::-1], members[3])
    assert len(nsga._best([infeasible, *members], 99)) == 7


def test_unknown_strategy_is_refused():
    with pytest.raises(UsageError, match="strategy of a search must be one of explore-exploit, pl"):
        SearchSettings(strategy="luck")
