"""Summarises a CSV or TSV table, column by column: summarise.py [--json] FILE"""

import argparse
import csv
import json
import math
import statistics
import sys
from typing import Any


def main() -> int:
    """Prints the summary; a file that can't be read as a table is an error."""
    parser = argparse.ArgumentParser(description="Summarises a CSV or TSV table, column by column.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    parser.add_argument("file", help="the table, with a header line")
    arguments = parser.parse_args()
    csv.field_size_limit(sys.maxsize)
    try:
        with open(arguments.file, newline="", encoding="utf-8-sig") as file:
            first_line = file.readline()
            file.seek(0)
            rows = [row for row in csv.reader(file, delimiter=delimiter_of(first_line)) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 1
    if not rows:
        print(f"{arguments.file}: the file is empty", file=sys.stderr)
        return 1
    header, *body = rows
    uneven = sum(len(row) != len(header) for row in body)
    columns = [summary(name, [row[at] if at < len(row) else "" for row in body]) for at, name in enumerate(header)]
    if arguments.json:
        print(json.dumps({"rows": len(body), "uneven_rows": uneven, "columns": columns}, ensure_ascii=False))
    else:
        print(f"{len(body)} rows, {len(columns)} columns, {uneven} rows with more or fewer cells than the header\n")
        print(as_markdown(columns))
    return 0


def delimiter_of(first_line: str) -> str:
    """What stands between the cells: the candidate that the header has most of."""
    return max(",;\t|", key=first_line.count)


def cut(cell: str, longest: int = 60) -> str:
    """The beginning of a long cell: the model pays for every word."""
    return cell if len(cell) <= longest else cell[: longest - 1] + "…"


def number(cell: str) -> float:
    """The cell as a number. Python would also take `nan`, `inf` and `1_000`, which no table means as numbers."""
    value = float(cell)
    if not math.isfinite(value) or "_" in cell:
        raise ValueError(cell)
    return value


def summary(name: str, cells: list[str]) -> dict[str, Any]:
    """What is known of one column."""
    there = [cell.strip() for cell in cells if cell.strip()]
    result: dict[str, Any] = {
        "column": name,
        "type": "empty",
        "missing": len(cells) - len(there),
        "distinct": len(set(there)),
        "examples": [cut(cell) for cell in list(dict.fromkeys(there))[:3]],
    }
    if not there:
        return result
    try:
        numbers = [number(cell) for cell in there]
    except ValueError:
        return {**result, "type": "text"}
    measures = {"min": min(numbers), "max": max(numbers)}
    measures |= {"mean": statistics.fmean(numbers), "median": statistics.median(numbers)}
    return {**result, "type": "number", **measures}


def as_markdown(columns: list[dict[str, Any]]) -> str:
    """The columns as a Markdown table."""
    keys = ["column", "type", "missing", "distinct", "min", "max", "mean", "median", "examples"]
    lines = [f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
    for column in columns:
        lines.append(f"| {' | '.join(shown(column.get(key)) for key in keys)} |")
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A value in a cell of a Markdown table."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main())
