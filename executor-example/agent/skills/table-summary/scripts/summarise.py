"""Summarises a CSV or TSV table, column by column: summarise.py [--json] FILE"""

import argparse
import csv
import json
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
            rows = list(csv.reader(file, dialect_of(file.read(64 * 1024), file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
        return 1
    if not rows:
        print(f"{arguments.file}: the file is empty", file=sys.stderr)
        return 1
    header, *body = rows
    columns = [summary(name, [row[at] if at < len(row) else "" for row in body]) for at, name in enumerate(header)]
    if arguments.json:
        print(json.dumps({"rows": len(body), "columns": columns}, ensure_ascii=False))
    else:
        print(f"{len(body)} rows, {len(columns)} columns\n")
        print(as_markdown(columns))
    return 0


def dialect_of(sample: str, file: Any) -> type[csv.Dialect] | str:
    """How the table is written, by its beginning; the file is wound back."""
    file.seek(0)
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:
        # One column has no delimiter.
        return "excel"


def summary(name: str, cells: list[str]) -> dict[str, Any]:
    """What is known of one column."""
    there = [cell.strip() for cell in cells if cell.strip()]
    result: dict[str, Any] = {
        "column": name,
        "type": "empty",
        "missing": len(cells) - len(there),
        "distinct": len(set(there)),
        "examples": list(dict.fromkeys(there))[:3],
    }
    if not there:
        return result
    try:
        numbers = [float(cell) for cell in there]
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
