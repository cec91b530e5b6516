"""The reports in a real browser, wide and narrow: nothing is missing, nothing is wider than the page, tables sort."""

import json
import shutil
from contextlib import contextmanager
from urllib.parse import unquote

import pytest

from tests.builders import studies

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.suite,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; on Debian, apt-get install chromium"),
]
WIDTHS = (1280, 400)


@pytest.fixture(scope="session")
def results(compared, shared):
    """The results of the tiny config and its further comparison, whose reports name each other; and Snakemake's own report."""

    def make(folder):
        studies.linked(compared, folder)
        own = {"checkout": folder, "config": folder / "tiny.yaml"}
        studies.snakemake(folder, "results/report.html", "--forcerun", "results/report.html", **own)
        studies.snakemake(folder, "--report", str(folder / "snakemake-report.html"), **own)

    return shared("browser", make) / "results"


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium, path, width, **options):
    """A page, and what went wrong on it: errors in the console, scripts that stopped, requests that failed."""
    page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
    page.wrong = []
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("requestfailed", lambda request: page.wrong.append(request.url[:200]))
    page.goto(path.as_uri())
    yield page
    page.close()


def problems(page, path):
    """What a reader would see that is not right, in words."""
    found = [*page.wrong]
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    found += page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => `image ${i.alt}`)")
    found += page.evaluate("[...document.images].filter(i => i.alt.length < 10).map(i => `no words for ${i.src.slice(0, 80)}`)")
    scroll, client = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    found += [f"page is {scroll} wide in {client}"] if scroll > client else []
    size = page.evaluate("Math.min(...['p', 'dd', 'td', 'figcaption', 'li'].map("
                         "name => parseFloat(getComputedStyle(document.querySelector(name)).fontSize)))")  # fmt: skip
    found += [f"text of {size} pixels"] if size < 14 else []
    links = page.evaluate("[...document.links].map(link => link.getAttribute('href'))")
    found += [f"link {link}" for link in links if ":" in link or link.startswith("/")]
    files = [path.parent / unquote(link) for link in links if not link.startswith("#")]
    found += [f"link {file}" for file in files if not file.exists()]
    anchors = [link for link in links if link.startswith("#")]
    return found + [link for link in anchors if page.locator(link).count() != 1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["report.html", "study/main/report.html"])
def test_nothing_is_wrong_with_a_report(results, chromium, name, width, scheme):
    with opened(chromium, results / name, width, color_scheme=scheme) as page:
        assert problems(page, results / name) == []
        assert page.locator("img").count() >= 4 and page.locator("a[href$='.json']").count() >= 9
        assert page.locator("#provenance ~ details tbody tr").count() == page.locator("#scores tbody tr").count()


def test_a_moved_report_is_whole_and_one_without_its_samples_has_no_links_to_them(results, chromium, tmp_path):
    shutil.copytree(results, tmp_path / "moved", symlinks=True)
    with opened(chromium, tmp_path / "moved/report.html", 1280) as page:
        assert problems(page, tmp_path / "moved/report.html") == []
        shutil.rmtree(tmp_path / "moved/samples")
        assert any("samples" in problem for problem in problems(page, tmp_path / "moved/report.html"))


@pytest.mark.parametrize("damage", ["image", "console", "width"])
def test_what_is_wrong_is_found(results, chromium, tmp_path, damage):
    """The checks above can fail."""
    text = (results / "report.html").read_text()
    text = {
        "image": text.replace("data:image/png;base64,", "data:image/png;base64,AAAA", 1),
        "console": text.replace("<script>", "<script>nothing.here;", 1),
        "width": text.replace(".wide { overflow: auto;", ".wide {"),
    }[damage]
    (tmp_path / "report.html").write_text(text)
    with opened(chromium, tmp_path / "report.html", 400) as page:
        said = {"image": "image Figure", "console": "nothing is not defined", "width": "page is"}[damage]
        assert any(said in problem for problem in problems(page, results / "report.html"))


def column(page, number):
    return page.evaluate(f"[...document.querySelectorAll('#scores tbody tr')].map(r => r.cells[{number}].dataset.value)")


def test_tables_sort_by_number_with_what_is_missing_last(results, chromium):
    with opened(chromium, results / "report.html", 1280) as page:
        heads = page.locator("#scores th")
        number = heads.all_inner_texts().index(next(t for t in heads.all_inner_texts() if t.startswith("fit evaluations")))
        missing = column(page, number).count("")
        for press, order in [("click", "ascending"), ("Enter", "descending")]:
            button = heads.nth(number).locator("button")
            button.click() if press == "click" else button.press(press)
            values = column(page, number)
            numbers = [float(value) for value in values if value]
            assert values[len(numbers) :] == [""] * missing and 0 < missing < len(values)
            assert numbers == sorted(numbers, reverse=order == "descending") and len(set(numbers)) > 1
            assert heads.nth(number).get_attribute("aria-sort") == order
        heads.nth(1).locator("button").click()
        solvers = page.evaluate("[...document.querySelectorAll('#scores tbody tr')].map(row => row.cells[1].innerText)")
        assert solvers == sorted(solvers) and page.locator("#scores th[aria-sort=none]").count() == heads.count() - 1


def test_the_filter_shows_what_has_all_words(results, chromium):
    with opened(chromium, results / "report.html", 400) as page:
        page.fill("#filter", "DIGITS alt")
        assert page.locator("#scores tbody tr:visible").count() == 2 and page.inner_text("#count") == "2 of 9"


def test_provenance_is_complete(results, chromium):
    with opened(chromium, results / "report.html", 1280) as page:
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        cells = page.locator("#provenance ~ details >> nth=0").locator("tbody tr")
        for row in [cells.nth(i).locator("td").all_inner_texts() for i in range(cells.count())]:
            score = json.loads((results / f"scores/{row[0]}/{row[1]}/nfe~{row[2]}.json").read_text())
            assert row[3] == score["tableau"] and row[7] == "0, 1" and len(row[8]) == 12
            assert "torch" in row[9] and row[10] and row[11] and float(row[12]) > 0
        assert len({row.split("\t")[8] for row in cells.all_inner_texts()}) == 5, "a hash a solver"


@pytest.mark.parametrize("width", WIDTHS)
def test_snakemakes_own_report_opens(results, chromium, width):
    with opened(chromium, results.parent / "snakemake-report.html", width) as page:
        page.wait_for_selector("text=Figures")
        assert page.wrong == []
