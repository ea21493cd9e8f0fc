"""`make conformance`: judges a Workbench by the contract.

WORKBENCH_API_URL says which, WORKBENCH_TOKEN lets us in; without the first it is that of the
stack on this machine. The exit code is 0 if it keeps all that runs depend on, 1 if it breaks
something, 2 if it can't be asked.
"""

from __future__ import annotations

import argparse
import os
import sys

from rich.console import Console
from rich.status import Status

from infra.conformance.course import put_on_trial
from infra.conformance.display import announce, show
from infra.conformance.target import TargetTrouble, read_target

BROKEN, NOBODY = 1, 2


def main() -> int:
    """Prints the report.

    Returns:
        The exit code.
    """
    arguments = _arguments()
    console = Console()
    try:
        target = read_target(arguments, os.environ)
        announce(target, console)
        with Status("knocking …", console=console) as status:
            findings = put_on_trial(
                target, lambda finding: status.update(f"{finding.rule.name}: {finding.verdict}")
            )
    except TargetTrouble as error:
        print(error, file=sys.stderr)
        return NOBODY
    show(findings, target, console)
    return BROKEN if any(finding.fails for finding in findings) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.conformance", description=__doc__)
    parser.add_argument("--input", metavar="PREFIX", help="where jobs find something to work on")
    parser.add_argument("--output", metavar="PREFIX", help="where they write")
    parser.add_argument("--report", metavar="PREFIX", help="where they write a report")
    parser.add_argument("--parameters", metavar="JSON", help="what they are given beside")
    parser.add_argument(
        "--job-minutes", type=float, default=5, metavar="N", help="what a job may take (5)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
