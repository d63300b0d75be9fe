"""The page of a report: what stands beside what, and which words are links."""

import html
import io
import re
import shlex

import pytest
from matplotlib.figure import Figure

from raydrgn.io import storage
from raydrgn.reporting.report import ReportTable, Section, png_width, write_report

TABLE = ReportTable(head=("cluster", "share"), rows=[("0", "40 %"), ("1", "60 %")])


def page_of(folder, **given):
    section = Section(**{"title": "Volumes", **given})
    uri = storage.join(folder, "report.html")
    write_report(uri, title="run, epoch 3", summary="It is in table.csv.", sections=[section])
    return storage.read_bytes(uri).decode()


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    uri = str(tmp_path / "out") if request.param == "local" else f"memory://page/{tmp_path.name}"
    for name in ("table.csv", "pc1/open.cxc", "C1/particles.cs", "vol 1.mrc", ".hidden.csv"):
        storage.write_bytes(storage.join(uri, name), b"x")
    return uri


def links(page):
    return re.findall(r'<a href="([^"]*)">([^<]*)</a>', page)


def test_names_of_files_that_are_there_are_links_and_others_are_not(folder):
    text = (
        "Open pc1/open.cxc or C1/particles.cs, but not pc2/open.cxc, s3://bucket/table.csv or "
        "table.csvx; <b>."
    )
    page = page_of(folder, text=text, tables=[TABLE])
    body, footer = page.split("<footer>")
    assert links(body) == [
        ("table.csv", "table.csv"),
        ("pc1/open.cxc", "pc1/open.cxc"),
        ("C1/particles.cs", "C1/particles.cs"),
    ]
    assert "&lt;b&gt;" in body
    assert ("table.csv", "table.csv") in links(footer)
    again = page_of(folder, text=text, tables=[TABLE]).split("<footer>")[1]
    assert links(again) == links(footer)  # and not the report itself
    assert "pc2/open.cxc" in body
    assert "s3://bucket/table.csv or table.csvx" in body


@pytest.mark.parametrize("depth", ["round1", "round1/analyze.7"])
def test_below_a_project_commands_hold_wherever_it_is_moved_or_copied(tmp_path, depth):
    root = tmp_path / "my project"
    folder = root / depth
    folder.mkdir(parents=True)
    for name in ("project.yaml", "steps.json"):
        (root / name).write_text("")
    commands = [
        shlex.join(["raydrgn", "filter", f"{root}/round1", "7", "-o", "kept"]),
        shlex.join(["raydrgn", "protocol", "-o", str(root), "--accept"]),
        shlex.join(["raydrgn", "train", "/data/p.star", "--ind", f"{root} 2/kept.ind.pkl"]),
        shlex.join(["raydrgn", "submit", "protocol", "-o", str(root)]),
    ]
    table = ReportTable(head=("decision", "to change it"), rows=[("seed", commands[1])])
    text = f"Labels of {root}/round1/analyze.7, and of {root} 2/x; {root} itself."
    section = Section(title="Next", text=text, commands="\n".join(commands), tables=[table])
    uri = str(folder / "report.html")
    write_report(uri, title=f"{root}/round1, epoch 7", summary="", sections=[section])
    page = html.unescape((folder / "report.html").read_text())
    assert "<h1>round1, epoch 7</h1>" in page
    assert f"<p>Labels of round1/analyze.7, and of {root} 2/x; {root} itself.</p>" in page
    words, shown = re.search(r"<p>([^<]*)</p>\n<pre>(.*?)</pre>", page, re.DOTALL).groups()
    assert words == "Commands are for the folder of the project."
    lines = shown.split("\n")
    assert [shlex.split(line) for line in lines[:2]] == [
        ["raydrgn", "filter", "round1", "7", "-o", "kept"],
        ["raydrgn", "protocol", "-o", ".", "--accept"],
    ]
    assert ">raydrgn protocol -o . --accept</td>" in page
    assert lines[2:] == commands[2:]  # of another folder, and of a cluster


def test_commands_of_a_run_alone_hold_in_any_folder(tmp_path):
    (tmp_path / "project.yaml").write_text("of another program")
    command = f"raydrgn filter {tmp_path}/run"
    page = page_of(str(tmp_path), commands=command)
    assert f"<pre>{command}</pre>" in page
    assert "folder of the project" not in page


def test_a_number_and_its_unit_stay_in_one_line(tmp_path):
    reason = "no: its decoded volume differs from the others"
    page = page_of(str(tmp_path), tables=[ReportTable(head=("a", "b"), rows=[("17.7 %", reason)])])
    assert '<td class="short">17.7 %</td>' in page
    assert f'<td class="text">{reason}</td>' in page  # which may take several


def test_numbers_stand_right_and_text_left_as_its_head_does(tmp_path):
    head = ("class", "particles", "supported", "why", "resolution, Å")
    rows = [("C1", "6,617", "yes", "", "14.2"), ("C2", "779", "3 of 4", "−0.2 is low", "none")]
    rows += [("C3", "20", "no", "few particles", "17.0")]
    page = page_of(str(tmp_path), tables=[ReportTable(head=head, rows=rows)])
    assert re.findall(r"<th( class=\"text\")?>([^<]*)", page) == [
        ("", "class"),
        ("", "particles"),
        (' class="text"', "supported"),
        ("", "why"),
        ("", "resolution, Å"),
    ]
    assert '<td class="short text">3 of 4</td>' in page
    assert '<td class="short">none</td>' in page


def test_figures_and_tables_stand_beside_each_other_by_their_width(tmp_path):
    figures = [(Figure(figsize=(width, 4)), f"{width} inches") for width in (5, 9, 14)]
    wide = ReportTable(head=tuple(f"column {k}" for k in range(12)), rows=[])
    page = page_of(str(tmp_path), figures=figures, tables=[TABLE, wide])
    shown = re.findall(r'<(?:figure|div) class="(?:table )?(third|half|full)"', page)
    kinds = re.findall(r'<(figure|div) class="(?:table )?(?:third|half|full)"', page)
    # the first table is beside the first figure
    assert list(zip(kinds, shown, strict=True)) == [
        ("figure", "third"), ("div", "third"), ("figure", "half"), ("figure", "full"),
        ("div", "full"),
    ]  # fmt: skip


@pytest.mark.parametrize("dpi", [110, 300])
def test_a_picture_from_a_file_is_as_wide_as_its_figure_whatever_its_resolution(dpi):
    png = io.BytesIO()
    Figure(figsize=(5, 4)).savefig(png, format="png", dpi=dpi)
    assert png_width(png.getvalue()) == pytest.approx(5, abs=0.02)


def test_a_page_needs_no_other_file_and_no_script(tmp_path):
    page = page_of(str(tmp_path), figures=[(Figure(figsize=(5, 4)), "a figure")], tables=[TABLE])
    assert page.count("data:image/png;base64,") == 1  # also where it opens large
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*//', page)
