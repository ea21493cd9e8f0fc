"""The way to the dashboard of the stack that is up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from infra.local.issuer import issuer_of
from infra.local.stack_file import read_stack
from infra.local.trouble import StackTrouble

if TYPE_CHECKING:
    from datetime import timedelta

    from infra.local.layout import Layout


def print_link(layout: Layout, *, lifetime: timedelta) -> int:
    """Prints an address that opens the dashboard, with a token that is valid for so long.

    The token stands in the fragment, which browsers send nowhere and the page takes out.

    Returns:
        The exit code.
    """
    stack = read_stack(layout)
    if stack is None:
        print("error: no stack is up: start it with `make up`", file=sys.stderr)
        return 1
    try:
        token = issuer_of(layout).token(lifetime=lifetime)
    except StackTrouble as trouble:
        print(f"error: {trouble}", file=sys.stderr)
        return 1
    print(f"{stack.dashboard_url}#token={token}")
    return 0
