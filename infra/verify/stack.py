"""Reads the facts of a local stack that is up."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from infra.local.deployment import Cloud
from infra.verify.queues import StackQueues
from infra.verify.reading import gather
from infra.verify.workbench import ReferenceWorkbench

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from infra.local.stack_file import Stack
    from infra.verify.facts import Delivery, Facts
    from infra.verify.reading import WorkbenchReader


def facts_of(
    stack: Stack,
    *,
    workbench: WorkbenchReader | None = None,
    deliveries: Sequence[Delivery] | None = None,
    well_since: datetime | None = None,
) -> Facts:
    """What there is to read of a stack, its queues among it.

    Args:
        stack: as its `stack.json` tells it.
        workbench: None: the stack's own, if it has one.
        deliveries: as for `gather`.
        well_since: the same.
    """
    journal = stack.workbench_journal_path
    own = ReferenceWorkbench.beside(journal) if journal else None
    with closing(Cloud(stack.aws_endpoint_url, stack.aws_region).client("sqs")) as sqs:
        return gather(
            sa.create_engine(stack.database_url, poolclass=sa.NullPool),
            poll_interval=timedelta(seconds=stack.poll_interval_seconds),
            workbench=workbench or own,
            queues=StackQueues.of(stack, sqs),
            deliveries=deliveries,
            well_since=well_since,
        )
