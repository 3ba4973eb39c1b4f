"""The one error that a user can cause and mend. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """One line that names the file or argument, the rule, and what was found."""


def run_command(main: Callable[[], int | None]) -> int:
    """Runs `main`; a mistake of the user's becomes one line on stderr and exit status 2, Ctrl-C 130."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; every file that is there is whole, and the same command may be run again", file=sys.stderr)
        return 130
