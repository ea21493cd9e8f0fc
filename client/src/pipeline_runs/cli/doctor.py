"""`doctor`: what is reachable, what isn't, why, and what to do; one look after the other."""

from __future__ import annotations

import importlib.util
import stat
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from pipeline_runs.calls import Patience, is_loopback
from pipeline_runs.cli.screens import age_text, duration_text, foreign
from pipeline_runs.connections import config_path
from pipeline_runs.errors import ApiProblem, PipelineRunsError, ScopeMissing, TokenRefused
from pipeline_runs.tokens import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from rich.console import RenderableType

    from pipeline_runs.cli.session import Session
    from pipeline_runs.client import Client
    from pipeline_runs.models import ServiceInfo

AT_ONCE: Final = Patience(budget_seconds=0)
"""What is wrong now is what counts."""
LARGEST_SKEW: Final = timedelta(seconds=30)
"""The API believes tokens whose times are wrong by a minute at most."""
SOON: Final = timedelta(minutes=5)
SWEEPS_LATE: Final = 3
"""So many intervals without a sweep, and something is wrong with the poller."""
STALE_SECONDS: Final = 90
"""News of a run that is older breaks what the service promises."""


class Verdict(StrEnum):
    """How a look came out."""

    WELL = "well"
    DOUBTFUL = "doubtful"
    """It works, and may not for long, or not for everything."""
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One look.

    Attributes:
        name: What was looked at.
        told: What was seen.
        remedy: What to do; empty: nothing.
    """

    name: str
    verdict: Verdict
    told: str
    remedy: str = ""


SIGNS: Final = {
    Verdict.WELL: ("✓", "green"),
    Verdict.DOUBTFUL: ("!", "yellow"),
    Verdict.BROKEN: ("✗", "bold red"),
}


def findings(session: Session) -> Iterator[Finding]:
    """Looks at one thing after the other; those that build on a broken one are left out."""
    file = config_path(session.outside.environment)
    try:
        found = session.connection
        client = session.client_with(AT_ONCE)
    except PipelineRunsError as error:
        yield Finding("configuration", Verdict.BROKEN, str(error))
        return
    yield Finding("configuration", Verdict.WELL, f"{found.api_url}, by {found.source}")
    yield from _secrecy(session)
    try:
        began = session.outside.surroundings.clock()
        client.health()
        taken = session.outside.surroundings.clock() - began
    except ApiProblem as error:
        remedy = "The service runs and its database doesn't: its operators know more"
        yield Finding("API", Verdict.BROKEN, str(error), remedy)
        return
    except PipelineRunsError as error:
        yield Finding("API", Verdict.BROKEN, str(error), _unreachable_remedy(found.api_url))
        return
    yield Finding("API", Verdict.WELL, f"healthy, answered within {duration_text(taken)}")
    yield from _token(session, client, str(file))


def _secrecy(session: Session) -> Iterator[Finding]:
    found = session.connection
    if found.api_url.startswith("http://") and not is_loopback(found.api_url):
        told = "The address is http:// without s: anybody on the way can read the token"
        yield Finding("secrecy", Verdict.DOUBTFUL, told, "Use the https:// address")
    file = found.private_file
    if file is not None and stat.S_IMODE(file.stat().st_mode) & 0o077:
        told = f"{file} holds a token, and others on this machine can read it"
        yield Finding("secrecy", Verdict.DOUBTFUL, told, f"chmod 600 {file}")


def _unreachable_remedy(api_url: str) -> str:
    if is_loopback(api_url):
        return "It is on this machine: `make up` in the service's clone starts it"
    return "Check the address, the network (VPN, proxy: HTTPS_PROXY) and the certificate"


def _token(session: Session, client: Client, file: str) -> Iterator[Finding]:
    found = session.connection
    anew = f"Get a new one, and put it into PIPELINE_RUN_TOKEN or a profile of {file}"
    if is_loopback(found.api_url):
        anew = "`make token` in the service's clone prints a new one; `make up` writes one too"
    try:
        token = found.token() if callable(found.token) else found.token
    except PipelineRunsError as error:
        yield Finding("token", Verdict.BROKEN, str(error), "Run the command by itself to see why")
        return
    if not token:
        yield Finding("token", Verdict.BROKEN, "There is none", anew)
        return
    yield _what_a_token_says(token, found.token_source, session.outside.now(), anew)
    try:
        info = client.service_info()
        now = session.outside.now()
    except (TokenRefused, ScopeMissing) as error:
        remedy = anew if isinstance(error, TokenRefused) else "Ask for a token with this scope"
        yield Finding("access", Verdict.BROKEN, str(error), remedy)
        return
    except ApiProblem as error:
        remedy = f"Tell the service's operators the request id {error.request_id}"
        yield Finding("access", Verdict.BROKEN, str(error), remedy)
        return
    except PipelineRunsError as error:
        yield Finding("access", Verdict.BROKEN, str(error), "Is the service of this client's age?")
        return
    yield Finding("access", Verdict.WELL, "the API accepts the token")
    yield from _service(info, now)
    yield _uploads(session)


def _what_a_token_says(token: str, source: str, now: datetime, anew: str) -> Finding:
    claims = claims_of(token)
    if claims is None:
        told = f"from {source}; it is no JWT, so only the API can tell what it is worth"
        return Finding("token", Verdict.DOUBTFUL, told)
    scopes = ", ".join(claims.scopes) or "none"
    told = f"of {claims.subject or 'nobody'}, from {source}; scopes: {scopes}"
    if claims.issued_at and claims.issued_at > now + LARGEST_SKEW:
        ahead = duration_text((claims.issued_at - now).total_seconds())
        told = f"{told}; made {ahead} in the future, by this machine's clock"
        return Finding("token", Verdict.DOUBTFUL, told, "Set this machine's clock")
    end = claims.expires_at
    if end is None:
        return Finding("token", Verdict.DOUBTFUL, f"{told}; it never says when it ends", anew)
    if end <= now:
        return Finding("token", Verdict.BROKEN, f"{told}; expired {age_text(end, now)}", anew)
    left = duration_text((end - now).total_seconds())
    verdict = Verdict.DOUBTFUL if end - now < SOON else Verdict.WELL
    remedy = anew if verdict is Verdict.DOUBTFUL else ""
    return Finding("token", verdict, f"{told}; good for {left}", remedy)


def _service(info: ServiceInfo, now: datetime) -> Iterator[Finding]:
    active = sum(info.runs.active.values())
    told = f"version {info.version}, stage {info.stage}; active runs of yours: {active}"
    yield Finding("service", Verdict.WELL, told)
    skew = abs(info.now - now)
    if skew > LARGEST_SKEW:
        told = f"this machine and the service differ by {duration_text(skew.total_seconds())}"
        remedy = "Set this machine's clock: tokens are refused when it is too wrong"
        yield Finding("clock", Verdict.DOUBTFUL, told, remedy)
    else:
        yield Finding("clock", Verdict.WELL, "agrees with the service's")
    yield _poller(info)
    yield _staleness(info)
    yield _breaker(info)


def _poller(info: ServiceInfo) -> Finding:
    last, interval = info.poller.last_sweep_at, info.poller.poll_interval_seconds
    remedy = "Its operators know more (alarm: no tick); runs go on, their status doesn't change"
    if last is None:
        return Finding("poller", Verdict.DOUBTFUL, "has never swept", remedy)
    told = f"swept {age_text(last, info.now)}, every {interval} s"
    if info.now - last > timedelta(seconds=interval) * SWEEPS_LATE:
        return Finding("poller", Verdict.BROKEN, told, remedy)
    return Finding("poller", Verdict.WELL, told)


def _staleness(info: ServiceInfo) -> Finding:
    worst = info.runs.worst_staleness_seconds
    if worst is None:
        return Finding("staleness", Verdict.WELL, "no job is being watched")
    told = f"the oldest news of an active run is {duration_text(worst)} old"
    if worst > STALE_SECONDS:
        remedy = "The statuses shown may be old; see poller and Workbench"
        return Finding("staleness", Verdict.DOUBTFUL, told, remedy)
    return Finding("staleness", Verdict.WELL, told)


def _breaker(info: ServiceInfo) -> Finding:
    if info.workbench.breaker == "CLOSED":
        return Finding("Workbench", Verdict.WELL, "is asked (breaker CLOSED)")
    opened = info.workbench.breaker_opened_at
    since = f" {age_text(opened, info.now)}" if opened else ""
    told = f"gives no valid answer: its breaker opened{since}"
    remedy = "Nothing is lost: checks and submissions go on by themselves once it answers"
    return Finding("Workbench", Verdict.BROKEN, told, remedy)


def _uploads(session: Session) -> Finding:
    storage = session.connection.storage
    if importlib.util.find_spec("boto3") is None:
        told = "submit --input can't upload: boto3 isn't installed"
        return Finding("uploads", Verdict.DOUBTFUL, told, "Install pipeline-runs-client[s3]")
    if storage is None:
        told = "submit --input has to be told a bucket: none is configured"
        remedy = "storage_bucket in the profile, or PIPELINE_RUN_STORAGE_BUCKET"
        return Finding("uploads", Verdict.DOUBTFUL, told, remedy)
    return Finding("uploads", Verdict.WELL, f"submit --input uploads to s3://{storage.bucket}")


def view(finding: Finding) -> RenderableType:
    """A line, and below it what to do."""
    sign, style = SIGNS[finding.verdict]
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1)
    table.add_column(width=13, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(sign, style=style), finding.name, foreign(finding.told))
    if finding.remedy:
        table.add_row("", "", foreign(f"→ {finding.remedy}", style="bold"))
    return table


def as_json(found: list[Finding]) -> dict[str, object]:
    """The same for programs."""
    return {
        "well": all(one.verdict is not Verdict.BROKEN for one in found),
        "checks": [asdict(one) for one in found],
    }
