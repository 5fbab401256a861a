"""A report is one file that needs nothing else."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from eqv2_plugin.common.html import Section, write_report

PNG = b"\x89PNG\r\n\x1a\n" + b"content"


class Tags(HTMLParser):
    """Opened and closed tags, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.sources: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.sources += [value for key, value in values.items() if key in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def read(path) -> Tags:
    tags = Tags()
    tags.feed(path.read_text(encoding="utf-8"))
    assert tags.open == []
    return tags


def test_titles_texts_tables_and_images_are_in_one_file(tmp_path):
    path = tmp_path / "report.html"
    rows = [("a", 1234, 0.000123456, True), ("b", np.float64(2.0), "-", False)]
    sections = [
        Section("First", "one\ntwo", ("name", "n", "x", "ok"), rows),
        Section("Second", images=[PNG, PNG]),
    ]
    write_report(path, "All", sections)
    tags = read(path)
    for said in ("All", "First", "Second", "one\ntwo", "name", "1,234", "0.0001235", "True"):
        assert said in tags.words
    assert len(tags.sources) == 2
    for source in tags.sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == PNG
    assert not re.search(r"https?://", path.read_text())


def test_text_is_no_markup(tmp_path):
    bad = '<script>alert("1")</script>&'
    write_report(tmp_path / "r.html", bad, [Section(bad, bad, (bad,), [(bad,)], images=[PNG])])
    assert "<script" not in (tmp_path / "r.html").read_text()
    assert read(tmp_path / "r.html").words.count(bad) == 6


def test_a_row_of_another_length_leaves_no_file(tmp_path):
    section = Section("s", header=("a", "b"), rows=[(1,)])
    with pytest.raises(ValueError, match="section 's' has 1 cells, its header 2"):
        write_report(tmp_path / "r.html", "t", [section])
    assert list(tmp_path.iterdir()) == []
