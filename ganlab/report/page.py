"""A report as one HTML page that needs nothing else, and as Markdown beside its pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape as plain_escape

from ganlab.report.tables import Table
from ganlab.report.texts import plain

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 1.2rem 1rem 4rem; background: #fff; color: #1f2430;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; line-height: 1.2; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .4rem; padding-top: .8rem; border-top: 2px solid #1f2430; }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p { margin: .4rem 0; max-width: 75ch; overflow-wrap: anywhere; }
.meta, .note, figcaption, small { color: #535c6b; }
.note { font-size: .85rem; }
.verdict { font-size: 1.08rem; border-left: 4px solid #2563c9; padding: .2rem 0 .2rem .8rem; margin: .8rem 0; }
.warn { border-left: 4px solid #b45309; padding: .2rem 0 .2rem .8rem; margin: .8rem 0; }
.box { overflow-x: auto; max-width: 100%; border: 1px solid #d5d9e0; border-radius: 6px; width: fit-content; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; border-bottom: 1px solid #e6e9ee; }
tr:last-child > * { border-bottom: 0; }
thead th { background: #f4f6f9; font-weight: 600; white-space: normal; vertical-align: bottom; min-width: 5rem; }
thead th.place { min-width: 0; }
td small { display: block; font-size: .85em; }
td small.long { white-space: normal; min-width: 8rem; max-width: 12rem; margin-left: auto; }
.text { text-align: left; }
th[scope=row] { text-align: left; font-weight: 600; white-space: normal; min-width: 8rem; max-width: 20rem; overflow-wrap: break-word;
                background: #fff; position: sticky; left: 0; }
td.wide { white-space: normal; min-width: 16rem; max-width: 40rem; overflow-wrap: anywhere; text-align: left; }
.card th[scope=row] { min-width: 7rem; font-weight: 500; color: #535c6b; position: static; }
.card thead th { text-align: left; }
.card td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
.pictures { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); margin: .8rem 0; }
.pictures.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; width: 100%; height: auto; }
@media (max-width: 600px) { th[scope=row] { min-width: 5.5rem; max-width: 9rem; } .pictures.pairs { grid-template-columns: 1fr 1fr; gap: .6rem; } }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .box { overflow: visible; border: 0; width: auto; }
  th, td { white-space: normal; padding: .2rem .35rem; }
  table { font-size: 8pt; }
  th[scope=row] { position: static; min-width: 0; }
  td.wide { min-width: 0; }
  tr, figure, .card { break-inside: avoid; }
  h3 + .note { break-after: avoid; }
  h2, h3 { break-after: avoid; }
  .moving { display: none; }
  .pictures { grid-template-columns: repeat(2, 1fr); }
  .pictures.small { grid-template-columns: repeat(3, 1fr); }
}
"""


def escape(text: str) -> str:
    """Text for HTML; a long name may break after an underscore, an equals sign, a comma or a dot, but not within a number."""
    return "<wbr>".join(re.split(r"(?<=\w[_=])(?=\w)|(?<=\w[.,])(?=[A-Za-z+])", plain_escape(text)))


TEXT = ("why", "device", "which seeds", "metric", "verdict at the end")  # columns of words


@dataclass
class Picture:
    """An image file's bytes, the name it has beside report.md, and what it shows in words."""

    name: str
    content: bytes
    caption: str

    @property
    def moving(self) -> bool:
        return self.name.endswith(".gif")


@dataclass
class Section:
    title: str
    verdict: str
    tables: list[Table]
    card: Table
    seeds: list[Picture] = field(default_factory=list)
    curves: list[Picture] = field(default_factory=list)
    samples: list[Picture] = field(default_factory=list)
    samples_note: str = ""
    samples_show: str = "images"
    """What one picture shows, and so how large it must be: "one" cloud of points, "several" panels, or "images"."""


@dataclass
class Report:
    """What the page says. `sections` has one entry per protocol card; `warnings` one sentence each."""

    title: str
    about: str
    warnings: list[str]
    sections: list[Section]
    protocols: Table | None = None
    """Where protocol cards differ; None if there is one."""

    def pictures(self) -> Iterable[Picture]:
        for section in self.sections:
            yield from (*section.seeds, *section.curves, *section.samples)


def html(report: Report) -> str:
    body = [f"<h1>{escape(report.title)}</h1>", f'<p class="meta">{escape(report.about)}</p>']
    body += [f'<p class="warn">{escape(sentence)}</p>' for sentence in report.warnings]
    if report.protocols:
        body.append(_html_table(report.protocols, "card"))
    for section in report.sections:
        body += [f"<section><h2>{escape(section.title)}</h2>", f'<p class="verdict">{escape(section.verdict)}</p>']
        first, *others = section.tables
        body.append(_html_table(first))
        body += _html_pictures("Every seed", section.seeds, "pictures")
        body += _html_pictures("Learning curves", section.curves, "pictures")
        kind = {"one": "pictures small pairs", "several": "pictures", "images": "pictures small"}[section.samples_show]
        body += _html_pictures("Samples", section.samples, kind, section.samples_note)
        body += [_html_table(table) for table in others]
        body.append(_html_table(section.card, "card"))
        body.append("</section>")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{plain_escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _html_table(table: Table, kind: str = "") -> str:
    named = [heading in ("setting", "") or heading.endswith(" against") for heading in table.header]
    head = "".join(
        f'<th scope="col"{" class=place" if heading == "#" else " class=text" if name or heading in TEXT else ""}>'
        f"{escape(heading)}</th>"
        for heading, name in zip(table.header, named, strict=True)
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(table.header) else ""
    rows = []
    for row in table.rows:
        cells = []
        for place, (heading, cell) in enumerate(zip(table.header, row, strict=True)):
            value, small = (cell, "") if isinstance(cell, str) else cell
            text = escape(value) + (
                f"<small{' class=long' if len(small) > 24 else ''}>{escape(small)}</small>" if small else ""
            )
            if named[place] and place == named.index(True):
                cells.append(f'<th scope="row">{text}</th>')
            else:
                wide = ' class="wide"' if heading in TEXT else ""
                cells.append(f"<td{wide}>{text}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<h3>{escape(table.title)}</h3>\n<div class="box" tabindex="0"><table{f" class={kind}" if kind else ""}>{head}'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n{notes}"
    )


def _html_pictures(title: str, pictures: list[Picture], kind: str, note: str = "") -> list[str]:
    if not pictures:
        return []
    lines = [f"<h3>{title}</h3>", f'<p class="note">{escape(note)}</p>' if note else "", f'<div class="{kind}">']
    for picture in pictures:
        form = "gif" if picture.moving else "png"
        source = f"data:image/{form};base64,{base64.b64encode(picture.content).decode()}"
        lines.append(
            f'<figure{" class=moving" if picture.moving else ""}><img src="{source}" alt="{plain_escape(picture.caption)}">'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
        )
    return [*lines, "</div>"]


def markdown(report: Report, pictures: str) -> str:
    """`pictures`: the folder of the pictures, relative to the file."""
    lines = [f"# {report.title}", "", report.about, ""]
    for sentence in report.warnings:
        lines += [f"> {sentence}", ""]
    if report.protocols:
        lines += _markdown_table(report.protocols)
    for section in report.sections:
        lines += [f"## {section.title}", "", f"**{section.verdict}**", ""]
        for table in (*section.tables, section.card):
            lines += _markdown_table(table)
        for picture in (*section.seeds, *section.curves, *section.samples):
            lines += [f"![{picture.caption}]({pictures}/{picture.name})", "", f"*{picture.caption}*", ""]
    return "\n".join(lines)


def _markdown_table(table: Table) -> list[str]:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    left = [heading in ("setting", "", *TEXT) or heading.endswith(" against") for heading in table.header]
    lines = [f"### {table.title}", "", row(table.header), row("---" if is_left else "---:" for is_left in left)]
    lines += [row(plain(cell) for cell in cells) for cells in table.rows]
    for note in table.notes:
        lines += ["", f"*{note}*"]
    return [*lines, ""]
