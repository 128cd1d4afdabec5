"""Pages: colours that can be read, charts that are as high as their numbers, and maps."""

import re
from pathlib import Path

import numpy as np
import pytest
from web_pages import Element, find_faults, measure_contrast, mix, read_page, read_palette
from worlds import keep, more_blobs, table

from mien.pages import charts
from mien.pages.html import render_html
from mien.pages.planes import MAP_POINTS, FaceMap
from mien.report.content import collect_content
from mien.report.maps import map_faces
from mien.report.plots import CURVE_TEXTS, plot_map
from mien.report.write import list_charts, write_report
from mien.runs.store import Store
from mien.study.file import resolve
from mien.study.results import StudyResults
from mien.study.run import run_study

TEXT_COLOURS = ("ink", "soft", "accent", "good", "other", "warn", "fail")

READABLE, VISIBLE = 4.5, 3.0  # the contrasts that WCAG 2.2 asks of text and of graphics


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A study that was trained, with its report and the map of its faces."""
    store = Store(tmp_path_factory.mktemp("pages") / "store")
    keep(more_blobs(96, 6), store, "blobs")
    settings = ["real_to_real", "both_to_real"]
    run_study(resolve(table(settings=settings, trials=1), store), store, device="cpu")
    page = write_report("small", store, store.root.parent / "out", map_faces=map_faces)
    return store, page


@pytest.fixture(scope="module")
def found(home: tuple[Store, Path]) -> tuple[StudyResults, FaceMap]:
    study = StudyResults("small", home[0])
    faces = map_faces(study, home[0], "cpu")
    assert faces is not None
    return study, faces


def review_page() -> str:
    content = {"rows": [], "name": "set", "real": False, "licences": [], "decisions": ["accept"]}
    return render_html("review.html", content)


# Colours


@pytest.mark.parametrize("side", ["light", "dark"])
def test_text_can_be_read_on_each_background(side: str):
    colours = read_palette(review_page())[side]
    alarm = mix(colours["fail"], colours["paper"], 0.12)
    backgrounds = {
        "paper": (colours["paper"], TEXT_COLOURS),
        "band": (colours["band"], TEXT_COLOURS),
        "warning": (colours["warnband"], ("ink",)),
        "note": (colours["calmband"], ("ink",)),
        "alarm": (alarm, ("ink",)),
    }
    faults = {
        (text, name): round(contrast, 2)
        for name, (background, texts) in backgrounds.items()
        for text in texts
        if (contrast := measure_contrast(colours[text], background)) < READABLE
    }
    assert faults == {}


@pytest.mark.parametrize("side", ["light", "dark"])
def test_the_numbers_of_a_heat_map_can_be_read_in_each_shade(side: str):
    page = review_page()
    colours = read_palette(page)[side]
    strengths = [int(text) / 100 for text in re.findall(r"--mix: (\d+)%", page)]
    strongest = strengths[["light", "dark"].index(side)]
    for tint in ("accent", "good", "other"):
        for share in np.linspace(0, 1, 11):
            shade = mix(colours[tint], colours["band"], share * strongest)
            assert measure_contrast(colours["ink"], shade) >= READABLE, (tint, share)


@pytest.mark.parametrize(("side", "place"), [("light", 1), ("dark", 2)])
def test_charts_can_be_read_and_told_from_the_page(side: str, place: int):
    paper = read_palette(review_page())[side]["paper"]
    theme = {entry[0]: entry[place] for entry in charts.THEME.values()}
    assert theme["paper"] == paper
    for name in ("ink", "soft"):
        assert measure_contrast(theme[name], paper) >= READABLE
    for name in theme.keys() - {"ink", "soft", "paper", "line"}:
        assert measure_contrast(theme[name], paper) >= VISIBLE, name


def test_the_contrast_of_colours_is_that_of_the_standard():
    assert measure_contrast("#000000", "#ffffff") == pytest.approx(21)
    assert measure_contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert mix("#ff0000", "#0000ff", 0.25) == "#4000bf"


# Charts and their tables


def test_a_report_with_curves_and_a_map_is_accessible(home: tuple[Store, Path]):
    text = home[1].read_text(encoding="utf-8")
    assert find_faults(text) == []
    page = read_page(text)
    images = [one for one in page.find("img") if "svg" in (one.attributes["src"] or "")]
    assert len(images) == 1 + len(CURVE_TEXTS) + 1
    for image in images:
        figure = image.parent
        assert figure is not None and figure.tag == "figure" and len(figure.find("table")) == 1
    (plot,) = [one for one in page.walk() if "plot" in one.classes]
    assert plot.parent is not None and len(plot.parent.find("table")) == 1


def test_faults_of_a_page_are_found():
    def find(body: str) -> str:
        page = review_page()
        start, end = page.index("<main>") + 6, page.index("</main>")
        return " ".join(find_faults(page[:start] + body + page[end:]))

    good = "<h1>A</h1>"
    cell = '<tbody><tr><th scope="row">a</th></tr></tbody>'
    assert find(good) == ""
    assert "<h3> B after level 1" in find(f"{good}<h3>B</h3>")
    assert "image without alt" in find(f"{good}<figure><img src='data:,'></figure>")
    assert "table without a caption" in find(f"{good}<table>{cell}</table>")
    assert "cannot scroll: T" in find(f"{good}<table><caption>T</caption>{cell}</table>")
    assert "without scope: T, b" in find(
        f"{good}<table><caption>T</caption><thead><tr><th>b</th></tr></thead>{cell}</table>"
    )
    assert "link to #gone" in find(f"{good}<a href='#gone'>x</a>")
    wide = review_page().replace("</style>", "p { width: 30rem; }</style>")
    assert "width 30rem is wider than a telephone" in find_faults(wide)


def test_the_chart_of_accuracies_has_all_its_numbers_in_its_table(home: tuple[Store, Path]):
    page = read_page(home[1].read_text(encoding="utf-8"))
    (plot,) = [one for one in page.walk() if "plot" in one.classes]
    assert plot.parent is not None
    (numbers,) = plot.parent.find("table")
    rows = [one for one in plot.walk() if one.classes == ["row"]]
    lines = [one for one in numbers.find("tbody")[0].find("tr") if "group" not in one.classes]
    assert len(rows) == len(lines) == 2
    for row, line in zip(rows, lines, strict=True):
        mean, interval, trials, constant = (cell.text for cell in line.find("td")[:4])
        assert _places(row, "mean", "cx") == [float(mean)]
        assert _places(row, "dot", "cx") == [float(text) for text in trials.split(", ")]
        assert _places(row, "constant", "x1") == [float(constant)]
        ends = [*_places(row, "interval", "x1"), *_places(row, "interval", "x2")]
        assert ends == [float(text) for text in interval.split(" to ")]


def _places(row: Element, name: str, attribute: str) -> list[float]:
    shapes = [one for one in row.walk() if one.classes == [name]]
    return [float((one.attributes[attribute] or "").rstrip("%")) for one in shapes]


@pytest.mark.parametrize("column", CURVE_TEXTS)
def test_a_curve_is_as_high_as_the_numbers_of_its_table(
    column: str, found: tuple[StudyResults, FaceMap]
):
    (chart,) = [
        one
        for one in collect_content([found[0]])["studies"][0]["curves"]
        if one["name"] == f"classifier-{column}-small"
    ]
    lines = [[entry.text for entry in line.entries] for line in chart["numbers"].lines]
    values = np.array([[float(text) for text in line[1:]] for line in lines])
    drawn = np.array([[y for _, y in points] for points in find_marks(chart["svg"])]).T
    assert values.shape == drawn.shape == (3, 2)
    assert read_scale(chart["svg"], "y")(drawn) == pytest.approx(values, abs=0.002 * values.max())


def find_marks(svg: str) -> list[list[tuple[float, float]]]:
    """Return where the markers of each series of a chart are, in the order of the series."""
    axes = svg[svg.index('id="matplotlib.axis_2"') : svg.index('id="legend_1"')]
    lines = re.findall(r'^   <g id="line2d_\d+">(.*?)\n   </g>', axes, re.DOTALL | re.MULTILINE)
    marks = [
        [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*?x="([^"]+)" y="([^"]+)"', line)]
        for line in lines
    ]
    return [points for points in marks if len(points) > 1]


def read_scale(svg: str, axis: str) -> np.poly1d:
    """Return the function from a place on an axis of a chart to its number, by its ticks."""
    ticks = re.findall(
        rf'^    <g id="{axis}tick_\d+">(.*?)\n    </g>', svg, re.DOTALL | re.MULTILINE
    )
    places = [re.findall(rf'<use [^>]*?\b{axis}="([^"]+)"', one)[0] for one in ticks]
    texts = [re.findall(r"<text[^>]*>([^<]+)</text>", one)[0] for one in ticks]
    numbers = [float(text.replace("\u2212", "-")) for text in texts]
    return np.poly1d(np.polyfit([float(place) for place in places], numbers, 1))


# The map


def test_a_map_has_the_faces_of_one_fold_in_three_groups(found: tuple[StudyResults, FaceMap]):
    study, faces = found
    assert list(faces.points) == ["real training", "real held-out", "synthetic"]
    n = {group: len(points) for group, points in faces.points.items()}
    assert n["real training"] + n["real held-out"] == len(study.faces) == 96
    assert all(len(points) == len(faces.classes[group]) for group, points in faces.points.items())
    assert max(n.values()) <= MAP_POINTS and set(faces.classes["synthetic"]) <= set(study.classes)

    # The axes are centred on the training faces, uncorrelated, and the first varies most
    training = faces.points["real training"]
    assert training.mean(axis=0) == pytest.approx(np.zeros(2), abs=1e-3)
    assert np.corrcoef(training.T)[0, 1] == pytest.approx(0, abs=1e-3)
    assert 1 >= faces.shares[0] >= faces.shares[1] > 0 and sum(faces.shares) <= 1 + 1e-6
    assert faces.fold == 0


def test_a_map_is_the_same_each_time(home: tuple[Store, Path], found: tuple[StudyResults, FaceMap]):
    again = map_faces(found[0], home[0], "cpu")
    assert again is not None
    for group, points in found[1].points.items():
        assert np.array_equal(points, again.points[group])


def test_the_table_of_a_map_has_the_points_that_are_drawn(found: tuple[StudyResults, FaceMap]):
    chart = plot_map(*found)
    groups = [line.entries for line in chart["numbers"].lines if line.kind == "total"]
    marks = find_marks(chart["svg"])
    assert [int(entries[1].text) for entries in groups] == [len(points) for points in marks]
    centres = np.array([[float(entry.text) for entry in entries[2:4]] for entries in groups])
    drawn = np.array([np.mean(points, axis=0) for points in marks])
    for column, axis in enumerate("xy"):
        shown = read_scale(chart["svg"], axis)(drawn[:, column])
        assert shown == pytest.approx(centres[:, column], abs=0.02)


def test_a_study_without_synthetic_faces_has_no_map(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    run_study(resolve(table(trials=1), store), store, device="cpu")
    page = write_report("small", store, tmp_path / "out", map_faces=map_faces)
    assert "A map of the faces" not in page.read_text(encoding="utf-8")
    (curves,) = [list_charts(collect_content([StudyResults("small", store)]))]
    assert [one["name"] for one in curves] == [f"classifier-{name}-small" for name in CURVE_TEXTS]
