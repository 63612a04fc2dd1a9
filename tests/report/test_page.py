import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from ncharness.report.page import render_page, write_report
from ncharness.store.run import Run
from ncharness.training.config import RunConfig, grid
from ncharness.training.rows import Row
from ncharness.verdicts.rows import ClaimRow, ordered

ROW = ClaimRow(
    claim="c2-depth-constant",
    title="Effective depth does not grow with L",
    statement="Any network of depth L >= L0 separates the training set in its first L0 layers.",
    source="arXiv:2202.09028 v9 and a note",
    setting="digits",
    scale="small",
    verdict="SUPPORTED",
    quantity="interpolated depth at L = 8 minus at L = 4",
    precondition="training error at most 0.01",
    power=0.9,
    test="equivalence",
    eps=0.05,
    effect=1 / 3,
    low=-0.125,
    high=0.75,
    margin=1.5,
    alpha=0.05,
    n=3,
    p=0.0004,
    holm_p=0.0123,
    reason="The interval lies inside the margin.",
    sweep={0.01: "INCONCLUSIVE", 0.05: "SUPPORTED"},
    values=(0.1, 0.2, 0.7),
)
CONTROL = dataclasses.replace(
    ROW,
    control=True,
    statement="Networks at learning rate 0.",
    verdict="REFUTED",
    setting="digits, learning rate 0",
    test="superiority",
)
MISSING = ClaimRow(
    claim="c7-noise-deepens",
    title="Effective depth grows with label noise",
    statement="It increases.",
    source="a talk",
    setting="mnist1d, of which the name is so long that it would not fit beside anything else",
    scale="small",
    verdict="NOT APPLICABLE",
)
VOID = {"meta", "br", "path", "rect", "circle", "use"}
WIDTHS = (390, 1280)


def halving_run(config, *, error=0.01):
    """Return a run whose NCC error halves from layer to layer, and over the epochs down to that."""
    errors = [
        Row(epoch, f"block{layer:02d}.pre_bn", "train", "ncc_error", 0.75 * 0.5 ** (layer * epoch / config.epochs))
        for epoch in config.measured_epochs()
        for layer in range(1, config.depth + 1)
    ]
    network = [Row(config.epochs, "network", "train", "error", error)]
    facts = {"finished": "2026-03-04T05:06:07+00:00", "version": "1.2.3", "commit": "abc1234", "torch": "2.6.0"}
    return Run(config, (*errors, *network), facts)


RUNS = [halving_run(config) for config in grid(RunConfig(), data=["digits", "mnist1d"], depth=[4, 8], seed=range(3))]
ROWS = ordered([dataclasses.replace(ROW, runs=[run.config.key() for run in RUNS]), CONTROL, MISSING])


class Document(HTMLParser):
    """Parser of elements, attributes and text of a page; closing tags are checked against their opening ones."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID or ("svg" in self.open and tag != "meta"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def values(self, *names):
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture(scope="module")
def whole():
    return render_page(ROWS, RUNS)


def test_the_page_says_everything_about_every_claim(whole):
    text = " ".join("".join(Document(whole).text).split())
    for row in ROWS:
        for words in (
            row.claim,
            row.title,
            row.statement,
            row.source,
            row.setting,
            row.quantity,
            row.precondition,
            row.reason,
        ):
            assert words in text
    for words in ("[-0.125, 0.75]", "0.1, 0.2, 0.7", "0.01: inconclusive", "<0.001, Holm-adjusted 0.012", "3 seeds"):
        assert words in text
    assert "2 verdicts: 1 SUPPORTED, 1 NOT APPLICABLE; controls: 1 ok, 0 FAILED" in text
    assert "control ok: REFUTED" in text
    assert "scale small: small networks on small or generated data, not the published settings" in text


def test_the_page_lists_the_runs_with_their_fit_and_where_they_come_from():
    poor = halving_run(RunConfig(seed=9), error=0.25)
    bare = Run(RunConfig(seed=10), (Row(0, "block01.pre_bn", "train", "ncc_error", 0.5),))
    text = " ".join("".join(Document(render_page(ROWS, [*RUNS, poor, bare])).text).split())
    assert "14 runs" in text
    for words in (RUNS[0].config.name(), RUNS[0].config.key(), "2026-03-04T05:06:07+00:00", "1.2.3 (abc1234)", "2.6.0"):
        assert words in text
    assert text.count("0.01, fitted") == len(RUNS)
    assert text.count("0.25, not fitted") == 1


def test_everything_from_outside_is_escaped():
    evil = '<script>alert("1")</script>&amp;\'<b '
    fields = ("claim", "title", "statement", "source", "setting", "quantity", "precondition", "test", "reason", "scale")
    row = dataclasses.replace(ROW, **dict.fromkeys(fields, evil), runs=[evil.replace(";", "")])
    run = halving_run(RunConfig(data=evil))
    run = Run(run.config, run.rows, dict.fromkeys(("finished", "version", "commit", "torch", "device"), evil))
    document = Document(render_page([row], [run]))
    assert not {"script", "b"} & set(document.tags)
    assert any(evil in label for label in document.values("aria-label"))
    assert "".join(document.text).count(evil) >= len(fields) + 5


def test_the_page_asks_for_nothing_from_outside(whole):
    document = Document(whole)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(document.tags)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in document.attributes
    assert not document.values("src", "srcset", "data", "action", "background")
    outside = {value for value in document.values("href", "xlink:href") if not value.startswith("#")}
    assert outside == {"https://arxiv.org/abs/2202.09028"}
    assert set(re.findall(r"\w+://[\w.]+", whole)) == {"https://arxiv.org"}
    assert set(re.findall(r"url\((.)", whole)) == {"#"}
    assert "@import" not in whole


def test_ids_are_unique_and_every_reference_has_its_target(whole):
    document = Document(whole)
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    inside = {value[1:] for value in document.values("href", "xlink:href") if value.startswith("#")}
    inside |= set(re.findall(r"url\(#([^)]*)\)", whole))
    assert inside <= set(ids)
    for run in RUNS:
        assert f'<a href="#run-{run.config.key()}">{run.config.name()}</a>' in whole


def test_figures_have_words_for_those_who_do_not_see_them(whole):
    document = Document(whole)
    assert document.tags.count("figure") == document.tags.count("figcaption") == 8
    labels = [value for tag, name, value in document.attributes if (tag, name) == ("svg", "aria-label")]
    assert document.tags.count("svg") == len(labels)
    for data in ("digits", "mnist1d"):
        start = f"Effective depth against L: {data}, MLP-L-256; 150 epochs"
        assert any(label.startswith(start) and "n = 3 seeds" in label for label in labels)


def article(text, claim):
    (found,) = re.findall(rf'<article id="claim-{claim}".*?</article>', text, re.DOTALL)
    return found


def test_a_claim_has_its_figure_its_runs_and_where_they_come_from_in_its_own_section():
    others = [halving_run(config) for config in grid(RunConfig(data="mnist1d"), depth=[4, 6])]
    mine = [run for run in RUNS if run.config.data == "digits"]
    row = dataclasses.replace(ROW, figure="depth-by-depth", runs=[run.config.key() for run in mine])
    text = render_page(ordered([row, CONTROL, MISSING]), [*mine, *others])
    own = article(text, ROW.claim)
    assert own.count("<figure>") == 1
    assert "<strong>Effective depth against L:</strong> digits, MLP-L-256" in own
    for run in mine:
        assert f'<a href="#run-{run.config.key()}">{run.config.name()}</a> <code>{run.config.key()}</code>' in own
    assert "mnist1d" not in own, "the figure is of the claim's own runs"
    assert not any(run.config.key() in own for run in others)
    for words in ("version: 1.2.3", "commit: abc1234", "torch: 2.6.0", "device: -"):
        assert f"<span>{words}</span>" in own
    assert "<figure>" not in article(text, MISSING.claim)
    rest = text[text.index('<section id="figures"') :]
    assert "digits, MLP" in rest
    assert "Effective depth against L:</strong> mnist1d" in rest
    assert "Effective depth against L:</strong> digits" not in rest, "it stands with its claim"


def test_the_figure_of_a_claim_shows_its_controls_too():
    trained = [halving_run(RunConfig(seed=seed)) for seed in range(3)]
    untrained = [halving_run(RunConfig(seed=seed, lr=0.0)) for seed in range(3)]
    row = dataclasses.replace(ROW, figure="depth-by-epoch", runs=[run.config.key() for run in trained])
    control = dataclasses.replace(CONTROL, runs=[run.config.key() for run in untrained])
    assert "Dashed: controls at learning rate 0" in article(
        render_page([row, control], [*trained, *untrained]), ROW.claim
    )


def test_a_claim_without_eps_says_so():
    own = article(render_page([dataclasses.replace(ROW, eps=None, sweep=())], []), ROW.claim)
    assert "<dt>eps</dt><dd>does not enter</dd>" in own
    assert "<dt>over eps</dt><dd>-</dd>" in own


def test_the_same_rows_and_runs_give_the_same_page(whole):
    assert render_page(ROWS, RUNS) == whole


def test_a_page_of_nothing_is_a_page(tmp_path):
    write_report([], [], tmp_path / "report.html")
    text = "".join(Document((tmp_path / "report.html").read_text()).text)
    assert "no verdicts" in text
    assert "No runs." in text


def test_rows_are_put_in_order_by_the_report(tmp_path):
    write_report(ROWS[::-1], [], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_page(ROWS, [])


def strip(row):
    """Return the attributes of the parts of the strip of a row, by class."""
    (svg,) = re.findall(r'<svg class="strip".*?</svg>', render_page([row], []))
    return {part: re.findall(rf'class="{part}" ([^>]*)/>', svg) for part in ("holds", "seed", "interval")} | {
        "all": svg
    }


def test_a_strip_shades_where_an_equivalence_holds():
    parts = strip(ROW)  # from -1.5 to 1.5 is the whole of its axis
    assert parts["holds"] == ['x="15.0" y="2" width="270.0" height="26"']
    assert parts["interval"] == ['d="M138.8 21H217.5"']
    assert len(parts["seed"]) == 3
    assert [re.findall(r">([^<]+)</text>", parts["all"])] == [["0", "-1.5", "1.5"]]


def test_a_strip_shades_beyond_the_margin_of_a_superiority():
    row = dataclasses.replace(ROW, test="superiority", margin=0.5, low=0.0, high=1.0, values=(0.25,))
    assert strip(row)["holds"] == ['x="150.0" y="2" width="148.5" height="26"']


def test_a_strip_with_an_open_end_ends_with_the_axis():
    row = dataclasses.replace(ROW, test="superiority", margin=0.0, low=0.0, high=float("inf"), values=(1.0,))
    assert strip(row)["interval"] == ['d="M15.0 21H298.5"']


def test_a_row_without_numbers_has_no_strip():
    assert '<svg class="strip"' not in render_page([MISSING], [])


# In a browser


MEASURE = """
<script>
addEventListener("load", () => {
  const result = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement;
    page.querySelectorAll("details").forEach(one => one.open = true);
    const figures = [...page.querySelectorAll("figure svg")];
    result[frame.width] = {
      overflow: root.scrollWidth - root.clientWidth,
      width: root.clientWidth,
      requests: frame.contentWindow.performance.getEntriesByType("resource").length,
      figures: figures.map(svg => [svg.getBoundingClientRect().width, svg.getBoundingClientRect().height]),
      letters: Math.min(...figures.map(svg => svg.getScreenCTM().a * 9)),
      titles: [...page.querySelectorAll("h3")].filter(one => one.getBoundingClientRect().height > 0)
        .map(one => one.textContent),
      cards: getComputedStyle(page.querySelector("td")).display == "block",
    };
  }
  const answer = document.createElement("pre");
  answer.textContent = JSON.stringify(result);
  document.body.replaceChildren(answer);
});
</script>
"""


@pytest.fixture(scope="module")
def measured(whole, tmp_path_factory):
    """Measure the page in a browser, in frames of these widths: windows have a least width, frames have none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for path in map(shutil.which, names) if path), None)
    if browser is None:
        pytest.skip(f"no browser to open the page in: none of {', '.join(names)} is on PATH")
    folder = tmp_path_factory.mktemp("browser")
    frames = "".join(
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{html.escape(whole)}"></iframe>'
        for width in WIDTHS
    )
    (folder / "frames.html").write_text(f"<!doctype html>{MEASURE}<body>{frames}", encoding="utf-8")
    options = ["headless", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    options += [
        "disable-component-update",
        "disable-sync",
        "hide-scrollbars",
        "dump-dom",
        f"user-data-dir={folder / 'profile'}",
    ]
    options += ["no-sandbox"] if os.geteuid() == 0 else []  # root has no sandbox to be in
    command = [browser, *(f"--{option}" for option in options), (folder / "frames.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    return json.loads(html.unescape(re.search("<pre>(.*)</pre>", dom, re.DOTALL).group(1)))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_shows_the_whole_page_without_scrolling_sideways(measured, width):
    seen = measured[str(width)]
    assert seen["width"] == width
    assert seen["overflow"] <= 0
    assert seen["cards"] == (width == 390)
    assert seen["titles"] == [ROW.title, MISSING.title]
    assert seen["requests"] == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_browser_draws_every_figure_in_letters_that_can_be_read(measured, width):
    seen = measured[str(width)]
    assert len(seen["figures"]) == 8
    assert all(wide > 300 and high > 200 for wide, high in seen["figures"])
    assert seen["letters"] >= 8.0  # pixels
