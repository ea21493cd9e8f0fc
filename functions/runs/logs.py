"""JSON lines on standard output, by Powertools; the domain's own loggers write through it.

In ASCII: whatever a text holds, it ends no line, and a lone surrogate can be written too.
"""

from __future__ import annotations

import json
import logging
from functools import cache, partial

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers


@cache
def logger() -> Logger:
    """The logger of this execution environment."""
    logging.getLogger("runs")  # Registered, so that it is found below.
    made = Logger(
        service="pipeline-runs",
        utc=True,
        log_record_order=["level", "message"],
        json_serializer=partial(json.dumps, default=str, separators=(",", ":")),
    )
    copy_config_to_registered_loggers(source_logger=made, include={"runs"})
    return made
