"""The report on a submission: every problem for machines (JSON) and for readers (text)."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

from brf_exp.storage import runs
from brf_exp.submission.fault import Problem
from brf_exp.submission.problems import Problems
from brf_exp.submission.registry import CHECKS, ERROR, WARNING

REPORT_SCHEMA: Final = 1
LINES_SHOWN: Final = 30
SHOWN_PER_CHECK: Final = 3


def report_record(problems: Problems, *, submission: str) -> dict[str, Any]:
    """The report as plain values; `submission` is the path as the user gave it."""
    listed = problems.listed
    return {
        "schema": REPORT_SCHEMA,
        "submission": submission,
        "accepted": not problems.n_errors,
        "errors": problems.n_errors,
        "warnings": problems.n_of(WARNING),
        "checks": [
            {
                "check": check,
                "severity": CHECKS[check].severity,
                "asks": CHECKS[check].asks,
                "count": count,
                "listed": sum(problem.check == check for problem in listed),
            }
            for check, count in sorted(problems.counts.items())
        ],
        "problems": [problem_record(problem) for problem in listed],
    }


def problem_record(problem: Problem) -> dict[str, Any]:
    """One problem as plain values; `file` may be a key of submission.yaml."""
    return {
        "check": problem.check,
        "severity": problem.severity,
        "file": problem.place.file,
        "row": problem.place.row,
        "column": problem.place.column,
        "value": problem.value,
        "remedy": problem.remedy,
        "message": problem.line,
    }


def report_lines(problems: Problems) -> list[str]:
    """The report for readers: a line per listed problem, then how many of each check there are."""
    return [*map(_line, problems.listed), _counted(problems)]


def short_lines(problems: Problems) -> list[str]:
    """The same with the first few problems of each check."""
    shown: Counter[str] = Counter()
    lines: list[str] = []
    for problem in problems.listed:
        shown[problem.check] += 1
        if shown[problem.check] <= SHOWN_PER_CHECK and len(lines) < LINES_SHOWN:
            lines.append(_line(problem))
    n_more = sum(problems.counts.values()) - len(lines)
    return [*lines, *([f"... and {n_more} more."] if n_more else []), _counted(problems)]


def _line(problem: Problem) -> str:
    return f"{problem.severity}: {problem.check}: {problem.line}"


def _counted(problems: Problems) -> str:
    counts = ", ".join(f"{check} {count}" for check, count in sorted(problems.counts.items()))
    return f"{_total(problems)}{f' ({counts})' if counts else ''}."


def write_report(path: Path, problems: Problems, *, submission: str) -> None:
    """Write the report as JSON, and as text beside it under the suffix .txt."""
    path.parent.mkdir(parents=True, exist_ok=True)
    runs.write_json(path, report_record(problems, submission=submission))
    path.with_suffix(".txt").write_text("\n".join(report_lines(problems)) + "\n", encoding="utf-8")


def rejection(problems: Problems, *, report: str | None) -> str:
    """The one line of a rejection: the first problem, how many more, and where all of them are."""
    first = next(problem for problem in problems.listed if problem.severity == ERROR)
    n_more = problems.n_errors - 1
    where = f"all in {report}" if report else "`report=FILE.json` writes them all"
    return first.line if not n_more else f"{first.line} ({n_more} more {_plural(n_more, 'error')}: {where}.)"


def _total(problems: Problems) -> str:
    n_errors, n_warnings = problems.n_errors, problems.n_of(WARNING)
    return f"{n_errors} {_plural(n_errors, 'error')}, {n_warnings} {_plural(n_warnings, 'warning')}"


def _plural(n: int, word: str) -> str:
    return word if n == 1 else f"{word}s"
