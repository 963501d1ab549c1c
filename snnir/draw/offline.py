"""What all pages share: one HTML file that loads nothing, which its own policy forbids too."""

from __future__ import annotations

from html import escape


def offline_page(title: str, style: str, body: str, script: str) -> str:
    """The file: `style` and `script` as they are, `body` as HTML, `title` as text."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="snnir">
<title>{as_html(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}
<script>
{script}</script>
</body>
</html>
"""


def as_html(text: object) -> str:
    """`text` for HTML; what UTF-8 or HTML cannot hold becomes the replacement character."""
    clean = ("\ufffd" if (c < " " and c not in "\t\n") or "\ud800" <= c <= "\udfff" else c for c in str(text))
    return escape("".join(clean))
