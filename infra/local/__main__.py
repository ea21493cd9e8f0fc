"""The stack on one machine: `python -m infra.local run|up|down|status|logs|token`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from infra.local.layout import Layout


def main() -> int:
    """Runs one verb.

    Returns:
        The exit code.
    """
    since = time.monotonic()
    verb = _arguments()
    environment = dict(os.environ)
    layout = Layout.from_environment(environment)
    # Each verb loads only what it needs: `down` and `logs` are to be quick.
    match verb.name:
        case "up":
            from infra.local.up import up  # noqa: PLC0415

            return up(layout, environment, since=since)
        case "run":
            from infra.local.demo import demonstrate  # noqa: PLC0415
            from infra.local.up import up  # noqa: PLC0415

            return up(layout, environment, since=since) or demonstrate(layout, verb.input)
        case "down":
            from infra.local.down import down  # noqa: PLC0415

            return down(layout)
        case "status":
            from infra.local.report import status  # noqa: PLC0415

            return status(layout)
        case "dashboard":
            from infra.local.dashboard import print_link  # noqa: PLC0415

            return print_link(layout, lifetime=timedelta(hours=verb.hours))
        case "token":
            from infra.local.issuer import print_token  # noqa: PLC0415

            return print_token(
                layout,
                tenant=verb.tenant,
                scopes=verb.scopes.split(),
                subject=verb.subject,
                lifetime=timedelta(hours=verb.hours),
            )
        case _:
            from infra.local.logs import follow  # noqa: PLC0415

            return follow(layout, verb.part)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    verbs = parser.add_subparsers(dest="name", required=True)
    run = verbs.add_parser("run", help="start everything and run a real pipeline")
    run.add_argument("--input", type=Path, metavar="FOLDER", help="with these files")
    verbs.add_parser("up", help="start everything in the background, deployed and healthy")
    verbs.add_parser("down", help="stop everything; runs and files are kept")
    verbs.add_parser("status", help="show what runs, where, and how much memory it takes")
    logs = verbs.add_parser("logs", help="follow the logs")
    logs.add_argument("part", nargs="?", help="of this part only")
    dashboard = verbs.add_parser("dashboard", help="print a link that opens the dashboard")
    dashboard.add_argument("--hours", type=float, default=12, help="how long it opens it (12)")
    token = verbs.add_parser("token", help="print a token for the API")
    token.add_argument("--tenant", default="default", metavar="NAME", help="whose runs it is for")
    token.add_argument(
        "--scopes",
        default="runs:read runs:write pipelines:write admin",
        metavar="WORDS",
        help="what it allows, separated by spaces (all)",
    )
    token.add_argument("--subject", default="local", metavar="NAME", help="who is to be named")
    token.add_argument("--hours", type=float, default=12, help="how long it is valid (12)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
