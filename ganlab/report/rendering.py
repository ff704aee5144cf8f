"""Fill in the templates: the page as HTML and as Markdown, and the notes of its tables."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup, escape

from ganlab.report.formatting import cell_text, field_title, format_p_value, plural, shorten_value


def render(template: str, **values) -> str:
    return ENVIRONMENT.get_template(template).render(values)


def render_notes(name: str, **values) -> list[str]:
    """The sentences of the macro `name` in templates/notes.j2, a text for each of its paragraphs."""
    text = getattr(ENVIRONMENT.get_template("notes.j2").module, name)(**values)
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def breakable(text: str) -> Markup:
    """Escape text for HTML, and let a long name break after an underscore, equals sign, comma or dot, but not in a number."""
    return Markup("<wbr>").join(map(Markup, re.split(r"(?<=\w[_=])(?=\w)|(?<=\w[.,])(?=[A-Za-z+])", str(escape(text)))))


LOADER = FileSystemLoader(Path(__file__).parent / "templates")
ENVIRONMENT = Environment(loader=LOADER, autoescape=select_autoescape(["html.j2"]), trim_blocks=True, lstrip_blocks=True)
ENVIRONMENT.filters |= {
    filter.__name__: filter for filter in (breakable, cell_text, field_title, format_p_value, plural, shorten_value)
}
