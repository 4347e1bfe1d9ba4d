"""Reports as one HTML file that needs no other: text, tables, and pictures in it. Knows cells; not their meaning."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#1d1d1f}
table{border-collapse:collapse;margin:1rem 0}th,td{padding:.25rem .7rem;border-bottom:1px solid #ddd;text-align:right;
white-space:nowrap}
th:first-child,td:first-child{text-align:left}img{max-width:100%}.warning{background:#fef3c7;padding:.6rem 1rem}"""


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, warning: bool = False) -> str:
    """A paragraph; a warning stands out."""
    return f"<p{' class=warning' if warning else ''}>{html.escape(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; the first column names its rows."""
    told = "".join(f"<th scope=col>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{told}</tr></thead><tbody>{body}</tbody></table>"


def picture(path: Path, says: str) -> str:
    """A PNG within the page, with a text for who cannot see it."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{html.escape(says)}" src="data:image/png;base64,{data}"></p>'


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """The whole file."""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    style = f"<style>{_STYLE}</style>"
    path.write_text("\n".join([head, style, f"<h1>{html.escape(title)}</h1>", *parts, "</html>"]) + "\n", "utf-8")
