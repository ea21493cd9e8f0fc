"""Ends what is ours and nobody looks after any more."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from infra.local.processes import family, marked, read_records, send, wait_until_gone

if TYPE_CHECKING:
    import psutil

    from infra.local.layout import Layout

GONE_SECONDS = 2


def end_strays(layout: Layout) -> list[psutil.Process]:
    """Kills processes that carry this stack's mark and belong to no part that is written down.

    They are what a killed part, or a killed `make up`, has left.

    Returns:
        Those that live on all the same.
    """
    known = {
        member.pid
        for record in read_records(layout)
        if (process := record.process)
        for member in family(process)
    }
    strays = [process for process in marked(layout.marker) if process.pid not in known]
    send(strays, signal.SIGKILL)
    return wait_until_gone(strays, GONE_SECONDS)
