"""The report's page in a headless Chromium: hovered, clicked, and without a word to the network."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.journeys import copy_digits, quantize, read

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
FOUND = next(
    (path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FOUND is None, reason="there is no chromium on the PATH"),
]

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
CENTRES = """() => [...document.querySelectorAll("#front [data-shown]:not([hidden]) [data-member]")]
  .map((mark) => {
    const box = mark.getBoundingClientRect();
    return [Number(mark.dataset.member), [box.x + box.width / 2, box.y + box.height / 2]];
  }).sort((a, b) => a[0] - b[0]).map((pair) => pair[1])"""


@dataclass
class Opened:
    """An open page, and what it said."""

    page: Any
    folder: Path
    front: dict | None
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def drawn(self) -> dict[str, list[str]]:
        """What is written on the operators of the cell shown."""
        return {
            group.get_attribute("data-operator"): group.locator(
                "text[data-part]"
            ).all_text_contents()
            for group in self.page.locator("svg.cell:visible [data-operator]").all()
        }


def written(scheme: dict, operator: str) -> list[int]:
    entry = scheme["operators"][operator]
    return [entry[key] for key in ("weight_bits", "bits") if key in entry]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("browser")
    copy_digits(place, 200)  # enough to tell members apart
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        quantize(place, "front", "--search", "--population", "12", "--generations", "6")
        quantize(place, "plain", "--bits", "5")
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=FOUND, args=list(FLAGS))
        yield opened
        opened.close()


def visit(browser: Any, folder: Path, width: int) -> Opened:
    page = browser.new_page(viewport={"width": width, "height": 1000})
    front = read(folder / "front.json") if (folder / "front.json").exists() else None
    opened = Opened(page, folder, front)
    page.on("console", lambda message: opened.said.append(message.text))
    page.on("pageerror", lambda error: opened.said.append(str(error)))
    page.on("request", lambda request: opened.asked.append(request.url))
    page.goto((folder / "report.html").as_uri())
    page.wait_for_selector("svg.cell text[data-part]")
    return opened


@pytest.fixture(scope="module", params=[1400, 390])
def opened(browser, folders, request) -> Iterator[Opened]:
    """The page of the search, opened once a width: each test leads it where it wants it."""
    found = visit(browser, folders / "front", request.param)
    yield found
    found.page.close()


def spread(member: dict, key: str) -> str:
    widths = {e[key] for e in member["scheme"]["operators"].values() if key in e}
    return f"{min(widths)} to {max(widths)}" if len(widths) > 1 else str(min(widths))


def says(locator: Any, text: str) -> None:
    """Wait until an element has a text."""
    sync_api.expect(locator).to_have_text(text, timeout=5000)


def centres(opened: Opened) -> list[list[float]]:
    """Where members are on the screen, with all of them in sight."""
    opened.page.get_by_text("all", exact=True).first.click()
    opened.page.evaluate("document.getElementById('front').scrollIntoView({block: 'center'})")
    opened.page.wait_for_timeout(50)
    return opened.page.evaluate(CENTRES)


def lonely(points: list[list[float]], chosen: int) -> int:
    """The member farthest from its neighbours; not the first, nor the one shown already."""

    def distance(index: int) -> float:
        x, y = points[index]
        return min((a - x) ** 2 + (b - y) ** 2 for n, (a, b) in enumerate(points) if n != index)

    return max(set(range(1, len(points))) - {chosen}, key=distance)


def test_page_is_silent_and_alone(opened):
    page = opened.page
    page.wait_for_timeout(200)
    assert opened.said == []
    own = (opened.folder / "report.html").as_uri()
    assert [url for url in opened.asked if not url.startswith("data:")] == [own]
    assert page.locator(".plot:visible").count() == 3
    for chart in page.locator(".plot").all():
        assert chart.locator("[data-tip], .cloud").count() > 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    says(page.locator("#command"), f"onnxgru pick front --index {opened.front['chosen']}")
    says(page.locator("#shown"), f"number {opened.front['chosen']}, in this folder")


def test_hovering_shows_the_member(opened):
    points = centres(opened)
    index = lonely(points, opened.front["chosen"])
    member = opened.front["members"][index]
    opened.page.mouse.move(*points[index])
    assert opened.page.locator("#tip").inner_text().splitlines() == [
        f"number {index}",
        f"flash bytes: {member['flash_bytes']:,}",
        f"weights: {spread(member, 'weight_bits')} bits",
        f"outputs: {spread(member, 'bits')} bits",
        f"bits per weight: {member['mean_bits']:.2f}",
        *(
            f"{title}: {member[role]:.2f} % "
            f"({member[f'{role}_interval'][0]:.2f} to {member[f'{role}_interval'][1]:.2f})"
            for title, role in (("hold-out", "holdout"), ("validation", "validation"))
        ),
    ]


def test_clicking_a_member_shows_its_widths_and_command(opened):
    page, front = opened.page, opened.front
    chosen = front["chosen"]
    page.locator(f"#members tr[data-index='{chosen}']").click()
    points = centres(opened)
    index = lonely(points, chosen)
    before = opened.drawn()
    page.mouse.click(*points[index])
    says(page.locator("#command"), f"onnxgru pick front --index {index}")
    assert page.locator("#shown").inner_text() == f"number {index}"
    drawn, scheme = opened.drawn(), front["members"][index]["scheme"]
    assert drawn != before
    for operator in scheme["operators"]:
        numbers = [int(text.split()[-1]) for text in drawn[operator]]
        assert numbers == written(scheme, operator), operator
    assert page.locator("#members tr.shown").get_attribute("data-index") == str(index)


def test_rows_of_the_table_do_the_same(opened):
    page, front = opened.page, opened.front
    last = len(front["members"]) - 1
    for index in (0, last):
        page.locator(f"#members tr[data-index='{index}'] button").click()
        assert page.locator("#command").inner_text().endswith(f"--index {index}")
        scheme = front["members"][index]["scheme"]
        drawn = opened.drawn()
        (new,) = (name for name in drawn if name.endswith("new.input"))
        assert drawn[new] == [
            f"W: {scheme['operators'][new]['weight_bits']}",
            f"→ {scheme['operators'][new]['bits']}",
        ]


def test_colours_tell_widths_apart(opened):
    colours: dict[str, set[str]] = {}
    for text, colour in opened.page.evaluate(
        """() => [...document.querySelectorAll("svg.cell text[data-part]")].map((text) => [
          text.textContent.split(" ").pop(), getComputedStyle(text.previousElementSibling).fill,
        ])"""
    ):
        colours.setdefault(text, set()).add(colour)
    assert len(colours) > 1 and all(len(found) == 1 for found in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


def test_copying_says_that_it_is_done(opened):
    opened.page.locator("#copy").click()
    says(opened.page.locator("#copy"), "copied")
    assert opened.said == []


def test_texts_of_the_cell_fit_their_boxes(opened):
    wide = opened.page.evaluate(
        """() => [...document.querySelectorAll("svg.cell:not([hidden]) g")].flatMap((group) => {
          const frame = group.querySelector(".frame").getBBox();
          return [...group.querySelectorAll("text")].filter((text) => {
            const box = text.getBBox();
            return box.x < frame.x || box.x + box.width > frame.x + frame.width;
          }).map((text) => text.textContent);
        })"""
    )
    assert wide == []


def test_page_without_a_search(browser, folders):
    opened = visit(browser, folders / "plain", 1000)
    assert opened.said == [] and len(opened.asked) == 1
    assert opened.page.locator(".plot").count() == 0
    drawn = opened.drawn()
    assert drawn["/gru/forward/reset.input"] == ["W: 5", "→ 5"]
    assert drawn["/gru/forward/state.sum"] == ["+ → 5"]
    assert drawn["/gru/input"] == ["→ 8"]
    assert opened.page.locator("#command").count() == 0
    opened.page.close()
