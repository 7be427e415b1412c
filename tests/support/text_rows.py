"""Rows as the statistics expect them: column name → text."""


def text_rows(**columns: list[object]) -> list[dict[str, str]]:
    """Returns the rows of these columns; all columns have the same length."""
    return [dict(zip(columns, map(str, values), strict=True)) for values in zip(*columns.values(), strict=True)]
