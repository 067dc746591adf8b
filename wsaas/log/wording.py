"""Words of the log that depend on numbers."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return `count` and what it counts: `1 client`, `2 clients`. `many`: where it is not `one` with an s behind."""
    return f"{count} {one if count == 1 else many or one + 's'}"
