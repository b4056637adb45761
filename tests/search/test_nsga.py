import hashlib
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from onnxgru.core.errors import OutputError, UsageError
from onnxgru.search.front import Member, front
from onnxgru.search.genome import Gene, Space
from onnxgru.search.journal import Journal
from onnxgru.search.nsga import Progress, SearchSettings, search
from tests.search import toy

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")
plain = partial(SearchSettings, strategy="plain")
"""NSGA-II throughout."""

SMALL = plain(population=6, generations=4, seed=3)


def run(settings=SMALL, **options):
    return search(toy.SPACE, toy.evaluate, settings, seeds=toy.SEEDS, **options)


def genomes(members):
    return [member.genome for member in members]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.jsonl"


def opened(path):
    start = Journal.resume if path.exists() else Journal.create
    return start(path, toy.KEY, toy.SPACE.genes, toy.OBJECTIVES)


@pytest.mark.parametrize("seed", range(3))
def test_reaches_the_exact_front(seed):
    members = run(plain(population=40, generations=20, seed=seed))
    assert len(set(genomes(members))) == len(members) == 800
    exact = set(toy.exact())
    found = {member.objectives for member in front(members)}
    assert len(found & exact) / len(exact) > 0.8
    generator = np.random.default_rng(seed)
    drawn = [toy.evaluate(toy.SPACE.random(generator)) for _ in range(800)]
    by_chance = {member.objectives for member in front(drawn)}
    assert len(by_chance & exact) / len(exact) < 0.6


@pytest.mark.parametrize("seed", range(3))
def test_reaches_all_of_a_small_front_in_a_large_space(seed):
    # 7**6 genomes. Only the first three genes help, so on the front the others are at their least
    # and the size gives the error.
    space = Space(tuple(Gene(f"g{i}", toy.WIDTHS) for i in range(6)))
    members = search(
        space,
        lambda genome: Member(genome, (24 - sum(genome[:3]), sum(genome))),
        plain(population=40, generations=20, seed=seed),
        seeds=[space.uniform(2), space.uniform(8)],
    )
    expected = [(30.0 - size, float(size)) for size in range(12, 31)]
    assert [member.objectives for member in front(members)] == expected


def test_same_seed_same_search():
    assert run() == run()


def test_another_seed_another_search():
    assert genomes(run()) != genomes(run(plain(population=6, generations=4, seed=4)))
    first = [genomes(run(plain(6, 1, seed))) for seed in (3, 4)]
    assert first[0] != first[1]
    assert first[0][:3] == first[1][:3] == list(toy.SEEDS)


def test_global_random_state_has_no_influence_and_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    one = run()
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(2)
    random.seed(2)
    assert run() == one


def test_more_generations_continue_the_same_search():
    longer = run(plain(population=6, generations=6, seed=3))
    assert longer[: SMALL.evaluations] == run()


SEQUENCE = """
import hashlib
from tests.search import toy
from onnxgru.search.front import Member
from onnxgru.search.nsga import SearchSettings, search
def coarse(genome):
    return Member(genome, (max(genome[:2]), sum(genome) // 4), genome[3] % 3)
members = search(toy.SPACE, coarse, SearchSettings(40, 8, 0, "plain"))
members += search(toy.SPACE, coarse, SearchSettings(40, 8, 0, "explore-exploit", 5.0))
print(hashlib.sha256(repr([member.genome for member in members]).encode()).hexdigest())
"""


def test_processors_do_not_matter():
    # NumPy sorts equals differently with and without wide vectors, and coarse objectives give
    # many equals; Python's hashes are salted per process.
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    digests = set()
    for disabled in ("", " ".join(found)):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        process = subprocess.run(
            [sys.executable, "-c", SEQUENCE],
            env=environment,
            cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
            check=True,
            capture_output=True,
            text=True,
        )
        digests.add(process.stdout.strip())
    assert len(digests) == 1
    assert len(digests.pop()) == len(hashlib.sha256().hexdigest())


def test_pymoo_is_imported_by_a_search_only():
    code = "import sys, onnxgru.search.nsga; assert 'pymoo' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_printed(capsys):
    run()
    assert capsys.readouterr() == ("", "")


def test_interrupted_at_every_evaluation(path):
    whole = run()
    for stop in range(SMALL.evaluations):
        path.unlink(missing_ok=True)
        asked = []

        def interrupted(genome, asked=asked, stop=stop):
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(genome)
            return toy.evaluate(genome)

        with opened(path) as journal, pytest.raises(KeyboardInterrupt):
            search(toy.SPACE, interrupted, SMALL, seeds=toy.SEEDS, journal=journal)
        assert asked == genomes(whole[:stop])
        again = []

        def counted(genome, again=again):
            again.append(genome)
            return toy.evaluate(genome)

        with opened(path) as journal:
            assert journal.members == whole[:stop]
            resumed = search(toy.SPACE, counted, SMALL, seeds=toy.SEEDS, journal=journal)
        assert repr(resumed) == repr(whole)
        assert front(resumed) == front(whole)
        assert again == genomes(whole[stop:])  # nothing is evaluated twice


def test_torn_at_random_bytes(path):
    with opened(path) as journal:
        whole = run(journal=journal)
    content = path.read_bytes()
    chance = random.Random(5)
    for length in chance.sample(range(len(content)), 25):
        path.write_bytes(content[:length])
        with opened(path) as journal:
            assert len(journal.members) == max(content[:length].count(b"\n") - 1, 0)
            assert repr(run(journal=journal)) == repr(whole)
        assert path.read_bytes() == content


def test_killed_five_times(path):
    settings = plain(population=10, generations=8, seed=1)
    arguments = [str(value) for value in (path, 10, 8, 1, 0.004)]
    chance = random.Random(6)
    reached = 0
    for _ in range(5):
        lines = reached + chance.randint(1, 12)
        with subprocess.Popen([sys.executable, toy.__file__, *arguments]) as process:
            while not path.exists() or path.read_bytes().count(b"\n") <= lines:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(chance.uniform(0, 0.006))
            process.kill()
        assert process.returncode < 0
        reached = path.read_bytes().count(b"\n") - 1
        assert lines <= reached < settings.evaluations
    news = []
    with opened(path) as journal:
        known = journal.members
        resumed = run(settings, journal=journal, report=lambda p: news.append(not p.known))
    whole = run(settings)
    assert known == whole[: len(known)]
    assert repr(resumed) == repr(whole)
    assert sum(news) == settings.evaluations - len(known)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of Python 3.12: none is unsafe
def test_killed_at_fifty_random_moments(path):
    """Forked, so that a process searches within a millisecond."""
    settings = plain(population=10, generations=8, seed=2)
    whole = run(settings)
    chance = random.Random(8)
    killed, reached = 0, set()
    while killed < 50:
        process = FORK.Process(target=toy.main, args=(path, settings, 0.0005))
        process.start()
        process.join(chance.uniform(0.0, 0.12))
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.join()
        if path.exists():
            with opened(path) as journal:  # cuts off what a kill left of a line
                known = journal.members
            reached.add(len(known))
            assert known == whole[: len(known)]
        if process.exitcode == 0:
            path.unlink()
    assert len(reached) > 10
    with opened(path) as journal:
        assert repr(run(settings, journal=journal)) == repr(whole)


def test_journal_comes_before_the_next_evaluation(path):
    with opened(path) as journal:

        def evaluate(genome):
            assert len(journal.members) == path.read_bytes().count(b"\n") - 1 == len(seen)
            seen.append(genome)
            return toy.evaluate(genome)

        seen = []
        search(toy.SPACE, evaluate, SMALL, journal=journal)
    assert len(seen) == SMALL.evaluations


def test_journal_that_cannot_be_written_ends_the_search(path):
    with opened(path) as journal:
        journal.append(toy.evaluate(toy.SEEDS[0]), 1)
    with opened(path) as journal:
        journal._file.close()
        journal._file = open(os.devnull, "rb", buffering=0)
        with pytest.raises(OutputError, match="the 1 before it are safe"):
            run(journal=journal)


def test_report(path):
    with opened(path) as journal:
        run(plain(6, 2, 3), journal=journal)
    reports: list[Progress] = []
    with opened(path) as journal:
        members = run(journal=journal, report=reports.append)
    assert [report.member for report in reports] == list(members)
    assert [report.evaluations for report in reports] == list(range(1, 25))
    assert [report.generation for report in reports] == sorted([1, 2, 3, 4] * 6)
    assert [report.known for report in reports] == [True] * 12 + [False] * 12
    assert {(report.generations, report.total) for report in reports} == {(4, 24)}


def test_seeds_come_first_without_repetitions():
    seeds = [(8, 8, 8, 8), (2, 2, 2, 2), (8, 8, 8, 8), (5, 5, 5, 5)]
    members = search(toy.SPACE, toy.evaluate, plain(6, 1), seeds=seeds)
    assert genomes(members)[:3] == [seeds[0], seeds[1], seeds[3]]
    assert len(set(genomes(members))) == 6
    many = [toy.SPACE.uniform(bits) for bits in toy.WIDTHS]
    assert genomes(search(toy.SPACE, toy.evaluate, plain(4, 1), seeds=many)) == many[:4]


@pytest.mark.parametrize("population", [4, 5, 9, 40])
def test_a_small_space_is_used_up(population):
    space = Space((Gene("a", (2, 3, 4)), Gene("b", (2, 4, 8)), Gene("c", (7,))))
    members = search(
        space, lambda g: Member(g, (-sum(g), sum(g))), plain(population, 20), report=None
    )
    assert sorted(genomes(members)) == sorted(itertools.product((2, 3, 4), (2, 4, 8), (7,)))


def test_one_objective_and_three():
    one = search(toy.SPACE, lambda g: Member(g, (sum(g),)), plain(10, 20))
    assert genomes(front(one)) == [(2, 2, 2, 2)]
    three = search(toy.SPACE, lambda g: Member(g, (8 - g[0], 8 - g[1], sum(g))), plain(10, 20))
    assert all(genome[2:] == (2, 2) for genome in genomes(front(three))[:5])


def test_constraint_is_met_before_objectives_count():
    # About one genome in 10**5 is feasible, and both objectives pull away from those.
    space = Space(tuple(Gene(f"g{i}", toy.WIDTHS) for i in range(8)))

    def evaluate(genome):
        missed = sum(abs(bits - 5) for bits in genome) - 2
        return Member(genome, (8 - genome[0], sum(genome)), missed)

    def ignoring(genome):
        member = evaluate(genome)
        return Member(genome, member.objectives)

    settings = plain(population=20, generations=30)
    members = search(space, evaluate, settings)
    feasible = [member for member in members if member.feasible]
    assert len(feasible) > 50
    assert set(front(members)) <= set(feasible)
    assert not any(evaluate(m.genome).feasible for m in search(space, ignoring, settings))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"population": 3}, "the population of a search must be an integer of at least 4, got 3"),
        ({"population": 40.0}, "population"),
        ({"generations": 0}, "number of generations .* at least 1, got 0"),
        ({"seed": -1}, "seed .* at least 0, got -1"),
        ({"seed": True}, "seed"),
    ],
)
def test_settings_are_checked(values, words):
    with pytest.raises(UsageError, match=words):
        plain(**values)


def test_defaults():
    settings = SearchSettings()
    assert (settings.population, settings.generations, settings.seed) == (40, 20, 0)


def test_what_evaluate_gives_is_checked(path):
    other = Member((2, 2, 2, 2), (1.0, 2.0))
    with pytest.raises(UsageError, match="must give a member of that genome"):
        search(toy.SPACE, lambda genome: other, SMALL)
    with pytest.raises(UsageError, match="must give 1 objectives as those before it, got 2"):
        search(
            toy.SPACE,
            lambda g: Member(g, (1.0,) * (1 + (g == toy.SEEDS[1]))),
            SMALL,
            seeds=toy.SEEDS,
        )
    with pytest.raises(UsageError, match="gene 'operator0'"):
        search(toy.SPACE, toy.evaluate, SMALL, seeds=[(1, 2, 3, 4)])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_do_not_change_the_search(workers):
    """The genomes' order is kept whoever finishes first."""

    def slow_first(genome):
        time.sleep(0.002 if sum(genome) % 2 else 0.0)
        return toy.evaluate(genome)

    with ThreadPoolExecutor(workers) as executor:
        found = search(toy.SPACE, slow_first, SMALL, seeds=toy.SEEDS, workers=executor)
    assert found == run()
