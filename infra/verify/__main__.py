"""`make verify`: judges the running stack by its database, journal, queues and events."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime

import sqlalchemy as sa
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.status import Status

from infra.local.layout import Layout
from infra.local.stack_file import read_stack
from infra.verify.display import show
from infra.verify.report import Demand, verify
from infra.verify.stack import facts_of

BROKEN, NO_STACK = 1, 2


def main() -> int:
    """Prints the report.

    Returns:
        The exit code: 0 if nothing is broken.
    """
    arguments = _arguments()
    layout = Layout.from_environment(os.environ)
    stack = read_stack(layout)
    if stack is None:
        print("There is no stack to verify: start one with `make up`.", file=sys.stderr)
        return NO_STACK
    well_since = datetime.fromtimestamp(layout.stack_file.stat().st_mtime, UTC)
    console = Console()
    try:
        with Status("reading the stack …", console=console):
            facts = facts_of(stack, well_since=None if arguments.amid_faults else well_since)
    except (sa.exc.DBAPIError, BotoCoreError, ClientError) as error:
        why = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        print(f"The stack can't be read: {why}", file=sys.stderr)
        print("`make status` tells what is wrong with it, and `make up` mends it.", file=sys.stderr)
        return NO_STACK
    report = verify(facts, demand=Demand.EVERYTHING if arguments.everything else Demand.USUAL)
    show(report, console)
    return 0 if report.holds else BROKEN


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.verify", description=__doc__)
    parser.add_argument(
        "--everything",
        action="store_true",
        help="also fail where what is rare, such as a cancel, has not happened",
    )
    parser.add_argument(
        "--amid-faults",
        action="store_true",
        help="don't judge time: a part was down a moment ago",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
