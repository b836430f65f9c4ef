"""Writes the page as one HTML file that needs nothing else.  The picture is inside, and nothing is executed."""

from __future__ import annotations

import base64
import html

from fastprune.errors import UsageError

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #ddd; vertical-align: top; }
td[style*=right] { white-space: nowrap; }
thead th { border-bottom: 2px solid #888; font-weight: normal; color: #555; }
thead th strong { color: #000; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
img { max-width: 100%; }
"""
# A browser that follows it loads nothing from elsewhere and runs no script, whatever the page holds.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""


def html_page(markdown: str, title: str, pictures: dict[str, bytes]) -> str:
    """Return the Markdown page as HTML.

    Args:
        markdown: the page.
        title: title of the window.
        pictures: PNG files by the name that the page has for them.
    """
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UsageError("report.html needs the markdown-it-py package: pip install 'fastprune[report]'.") from None
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown)
    for token in (child for block in tokens for child in block.children or []):
        if token.type == "image" and token.attrs["src"] in pictures:
            png = base64.b64encode(pictures[str(token.attrs["src"])]).decode()
            token.attrs["src"] = f"data:image/png;base64,{png}"
    body = parser.renderer.render(tokens, parser.options, {})
    head = HEAD.format(policy=html.escape(POLICY), title=html.escape(title), style=STYLE)
    return f"{head}{body}</body>\n</html>\n"
