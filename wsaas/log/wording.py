"""Singular and plural in the log."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and its noun: `1 client`, `2 clients`. `many`: the plural if it is not `one` with an s."""
    return f"{count} {one if count == 1 else many or one + 's'}"
