"""Reports as one HTML file that needs nothing else: no network, no further files."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import save_text

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p { white-space: pre-line; }
div { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: 0.2rem 0.8rem 0.2rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; display: block; margin: 0.8rem 0; }
"""


@dataclass(frozen=True)
class Section:
    """A part of a report, in this order."""

    title: str  # its heading
    text: str = ""  # a paragraph; line breaks are kept
    header: Sequence[str] = ()  # names of the table's columns
    rows: Sequence[Sequence[Any]] = ()  # of the table; floats with four significant digits
    images: Sequence[bytes] = ()  # contents of PNG files


def write_report(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write a report as an HTML file, which appears when it is complete."""
    parts = [_section(section) for section in sections]
    name = html.escape(title)
    page = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{name}</title>'
        f"\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{''.join(parts)}</body>\n"
        "</html>\n"
    )
    save_text(path, page)


def _section(section: Section) -> str:
    lines = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        lines.append(f"<p>{html.escape(section.text)}</p>")
    if section.header:
        lines.append(_table(section))
    for image in section.images:
        data = base64.b64encode(image).decode()
        lines.append(f'<img alt="{html.escape(section.title)}" src="data:image/png;base64,{data}">')
    return "\n".join(lines) + "\n"


def _table(section: Section) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in section.header)
    if wrong := {len(row) for row in section.rows} - {len(section.header)}:
        raise ValueError(
            f"a row of section {section.title!r} has {min(wrong)} cells, its header "
            f"{len(section.header)}"
        )
    rows = ["<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in section.rows]
    return f"<div><table>\n<tr>{head}</tr>\n" + "\n".join(rows) + "\n</table></div>"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"<td>{html.escape(str(value))}</td>"
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    return f'<td class="number">{text}</td>'
