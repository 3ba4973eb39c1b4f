"""An audit as text: a table of the cases, then every problem. Standard library only."""

from __future__ import annotations

LINE_LETTERS = 120
NAME_LETTERS = 24
WARNINGS_LISTED = 20
"""All errors are listed; warnings of more cases than this are only in audit.json."""

COLUMNS = ("case", "size", "spacing mm", "axes", "range", "label voxels (mL)", "problems")
IMAGE_COLUMNS = ("case", "size", "pixel mm", "range", "label pixels (cm2)", "problems")
FEW_CASES = 5
"""A warning shared by more cases than this gets one line for all of them."""


def table_lines(audit: dict) -> list[str]:
    """The table of an audit, at most 120 characters wide; then errors, some warnings, notes and the summary."""
    images = audit.get("pictures", False)
    rows = [IMAGE_COLUMNS if images else COLUMNS]
    rows += [_image_row(entry) if images else _row(entry) for entry in audit["cases"]]
    limits = (NAME_LETTERS, 13, 17, 17) if images else (NAME_LETTERS, 13, 17, 5, 17)
    widths = [min(limit, max(len(row[i]) for row in rows)) for i, limit in enumerate(limits)]
    problems = min(44 if images else 28, max(len(row[-1]) for row in rows))
    labels = min(max(len(row[-2]) for row in rows), LINE_LETTERS - sum(widths) - problems - 2 * (len(limits) + 1))
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
    """Three significant digits; no decimals for whole numbers, nor from 100 to 10 million."""
    if not abs(value) < 1e7:
        return f"{value:.3g}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _row(entry: dict) -> tuple[str, ...]:
    labels = [
        f"{name} {facts['voxels']} ({three_digits(facts['volume_ml'])})"
        for name, facts in entry["labels"].items()
    ]
    if len(labels) > 3:
        voxels = sum(facts["voxels"] for facts in entry["labels"].values())
        volume = sum(facts["volume_ml"] for facts in entry["labels"].values())
        labels = [f"all {len(labels)}: {voxels} ({three_digits(volume)})"]
    return (
        _short_name(entry["name"]),
        "x".join(str(side) for side in entry["size"] or "?"),
        three_numbers(entry["spacing_mm"]) if entry["spacing_mm"] else "?",
        entry["orientation"] or "?",
        "..".join(three_digits(value) for value in entry["range"]) if entry["range"] else "?",
        ", ".join(labels) or "-",
        ", ".join(codes_of(entry)) or "-",
    )


def _image_row(entry: dict) -> tuple[str, ...]:
    size_mm = entry["pixel_size_mm"]
    labels = [
        f"{name} {facts['voxels']}" + (f" ({three_digits(facts['voxels'] * size_mm**2 / 100)})" if size_mm else "")
        for name, facts in entry["labels"].items()
    ]
    return (
        _short_name(entry["name"]),
        "x".join(str(side) for side in entry["size"][:2]) if entry["size"] else "?",
        f"{size_mm:.4g}" if size_mm else "?",
        "..".join(three_digits(value) for value in entry["range"]) if entry["range"] else "?",
        ", ".join(labels) or "-",
        ", ".join(codes_of(entry)) or "-",
    )


def _problem_lines(audit: dict) -> list[str]:
    """A line for each error, one for each warning shared by many cases, one for each case with others."""
    errors, warnings = [], []
    shared = _shared_warnings(audit)
    for entry in audit["cases"]:
        by_level: dict[str, list[str]] = {"error": [], "warning": []}
        for problem in entry["problems"]:
            if problem["level"] == "error" or problem["code"] not in shared:
                by_level[problem["level"]].append(f"{problem['code']}: {problem['text']}")
        errors += [f"error: {entry['name']}: {text}" for text in by_level["error"]]
        if by_level["warning"]:
            further = len(by_level["warning"]) - 2
            more = f"; and {further} more" if further > 0 else ""
            warnings.append(f"warning: {entry['name']}: {'; '.join(by_level['warning'][:2])}{more}")
    hidden = len(warnings) - WARNINGS_LISTED
    more = [f"and {hidden} more cases with warnings: see audit.json"] if hidden > 0 else []
    return errors + list(shared.values()) + warnings[:WARNINGS_LISTED] + more


def _shared_warnings(audit: dict) -> dict[str, str]:
    """Code -> one line, of the warnings that more than a few cases share."""
    found: dict[str, dict[str, str]] = {}  # code -> case -> the first text
    for entry in audit["cases"]:
        for problem in entry["problems"]:
            if problem["level"] == "warning":
                found.setdefault(problem["code"], {}).setdefault(entry["name"], problem["text"])
    lines = {}
    for code, texts in sorted(found.items()):
        if len(texts) > FEW_CASES:
            name, text = next(iter(texts.items()))
            lines[code] = f"warning: {code} in {len(texts)} of {audit['count']} cases, such as {name}: {text}"
    return lines


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"


def _short_name(name: str) -> str:
    """At most 24 characters; a longer name keeps both ends, as names differ at either."""
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 13]}…{name[-12:]}"
