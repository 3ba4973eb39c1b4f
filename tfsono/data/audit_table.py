"""An audit in words: a table of the cases, then every problem. Standard library only."""

from __future__ import annotations

LINE_LETTERS = 120
WARNINGS_LISTED = 20
"""Errors are all listed; warnings beyond these are in audit.json alone."""


def table_lines(audit: dict) -> list[str]:
    """The table of an audit, at most 120 letters wide; then errors, some warnings, notes and the summary."""
    rows = [("case", "size", "spacing mm", "axes", "range", "voxels (mL) of each label", "problems")]
    rows += [_row(entry) for entry in audit["cases"]]
    limits = (24, 13, 17, 5, 17)
    widths = [min(limit, max(len(row[i]) for row in rows)) for i, limit in enumerate(limits)]
    problems = min(34, max(len(row[6]) for row in rows))
    labels = min(max(len(row[5]) for row in rows), LINE_LETTERS - sum(widths) - problems - 12)
    widths += [labels, problems]
    table = [
        "  ".join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    table.insert(1, "  ".join("-" * width for width in widths))
    return [*table, "", *_problem_lines(audit), *audit["notes"], heading(audit)]


def heading(audit: dict) -> str:
    """One line with the counts."""
    return (
        f"{audit['dataset']}: {audit['count']} cases, {audit['with_errors']} with errors, "
        f"{audit['with_warnings']} with warnings only"
    )


def level_of(entry: dict) -> str:
    """ "error", "warning" or "": the worst of the entry's problems."""
    levels = {problem["level"] for problem in entry["problems"]}
    return next((level for level in ("error", "warning") if level in levels), "")


def codes_of(entry: dict) -> list[str]:
    """Each code once, errors first."""
    return list(dict.fromkeys(problem["code"] for problem in entry["problems"]))


def three_numbers(values) -> str:
    """ "0.5x0.5x7.5"."""
    return "x".join(f"{value:.3g}" for value in values)


def three_digits(value: float) -> str:
    """Three significant digits, but whole numbers and those from 100 on whole."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _row(entry: dict) -> tuple[str, ...]:
    labels = [
        f"{name} {facts['voxels']} ({three_digits(facts['volume_ml'])})"
        for name, facts in entry["labels"].items()
    ]
    if len(labels) > 3:
        voxels = sum(facts["voxels"] for facts in entry["labels"].values())
        volume = sum(facts["volume_ml"] for facts in entry["labels"].values())
        labels = [f"{len(labels)} labels {voxels} ({three_digits(volume)})"]
    return (
        entry["name"],
        "x".join(str(side) for side in entry["size"] or "?"),
        three_numbers(entry["spacing_mm"]) if entry["spacing_mm"] else "?",
        entry["orientation"] or "?",
        "..".join(three_digits(value) for value in entry["range"]) if entry["range"] else "?",
        ", ".join(labels) or "-",
        ", ".join(codes_of(entry)) or "-",
    )


def _problem_lines(audit: dict) -> list[str]:
    lines: dict[str, list[str]] = {"error": [], "warning": []}
    for entry in audit["cases"]:
        for problem in entry["problems"]:
            text = f"{problem['level']}: {entry['name']}: {problem['code']}: {problem['text']}"
            lines[problem["level"]].append(text)
    hidden = len(lines["warning"]) - WARNINGS_LISTED
    more = [f"and {hidden} more warnings: see audit.json"] if hidden > 0 else []
    return lines["error"] + lines["warning"][:WARNINGS_LISTED] + more


def _fit(text: str, width: int) -> str:
    """Padded or cut; of a long name both ends stay, as names differ at either."""
    if len(text) <= width:
        return text.ljust(width)
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]
