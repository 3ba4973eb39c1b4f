"""The one error that a user can cause and fix. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """One line that names the file or argument, the rule, and what was found."""


def run_command(main: Callable[[], int | None]) -> int:
    """Runs `main`; a user's mistake becomes one line on stderr and exit status 2, Ctrl-C 130."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no partial files were left. Run the same command to resume.", file=sys.stderr)
        return 130
