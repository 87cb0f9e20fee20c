"""Text from outside, for people to read."""


def visible(text: str) -> str:
    """The text with line breaks, terminal controls, turns of direction and the like written as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
