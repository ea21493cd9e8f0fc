"""Arguments and options that several commands have."""

from typing import Annotated

import typer

FLAG = ""
"""A flag takes no value; typer would show that it takes a bool."""

RunId = Annotated[int, typer.Argument(metavar="RUN", min=1, help="The run's id.")]
PipelineName = Annotated[
    str, typer.Argument(metavar="PIPELINE", help="The pipeline's id, or its name.")
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json", metavar=FLAG, help="Print JSON on standard output; all else goes to stderr."
    ),
]
Wait = Annotated[
    bool,
    typer.Option("--wait", "-w", metavar=FLAG, help="Stay until the run ends, and end as it does."),
]
WaitTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        help="How long to stay at most (90s, 15m, 2h): then exit code 3; the run goes on.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="The same key again answers the same run. Else a new one is made for each call.",
    ),
]
