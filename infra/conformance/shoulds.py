"""What a Workbench may offer, and what runs have of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from infra.conformance.rules import Broken, Level, NotSeen, rule
from infra.conformance.trial import (
    BUSY,
    COMPLETED,
    FAILED,
    NOBODYS_JOB,
    Run,
    jobs_in,
    meaning_in,
    named_job,
    word_in,
)

if TYPE_CHECKING:
    from infra.conformance.trial import Trial
    from infra.conformance.wire import Exchange

should = partial(rule, Level.SHOULD)
SUBMISSIONS_AT_ONCE: Final = 4
LOOKS_AT_ONCE: Final = 20
LONG_WORK: Final = {"queue_seconds": 60, "work_seconds": 60}
"""Understood by the reference Workbench; others ignore it."""
NOTHING_TO_CANCEL: Final = frozenset({404, 409})


@should(
    "A run may get a second job. Set WORKBENCH_HONOURS_KEYS=false: then one is looked for after "
    "every submission, and cancelled; without a client reference it runs to its end."
)
def keys_are_honoured(trial: Trial) -> str:
    """The same Idempotency-Key answers the same job, at once, later, and after its end."""
    with ThreadPoolExecutor(SUBMISSIONS_AT_ONCE) as callers:
        at_once = list(callers.map(lambda _: trial.submit(Run.AT_ONCE), range(SUBMISSIONS_AT_ONCE)))
    made = {_job_of(exchange) for exchange in at_once}
    if len(made) > 1:
        raise Broken(
            f"{SUBMISSIONS_AT_ONCE} submissions at once with one key made {len(made)} jobs"
        )
    first = trial.first_job
    again = _job_of(trial.submit(Run.FIRST))
    if again != first:
        raise Broken(f"the key of job {first}, which is {trial.first_statuses[-1]}, made {again}")
    return ""


@should(
    "Without it a second job of a run, or one whose submission was never answered, isn't found: "
    "it runs to its end, and nobody reads what it did."
)
def jobs_are_found_by_key(trial: Trial) -> str:
    """GET /batch/jobs?idempotency_key= tells the jobs submitted under a key."""
    _offered(trial, "client_reference")
    answer = trial.find(trial.key_of(Run.FIRST))
    if trial.first_job not in jobs_in(answer):
        raise Broken(f"job {trial.first_job} is not among those of its key: {answer.told}")
    return ""


@should("Each check of a run is a call of its own: the Workbench is asked more often.")
def many_jobs_in_one_call(trial: Trial) -> str:
    """POST /batch/status tells of up to 100 jobs, and leaves out those it doesn't know."""
    _offered(trial, "bulk_status")
    known = list(trial.submissions_accepted)[:10]
    if not known:
        raise NotSeen("there is no job to ask for")
    answer = trial.look_at_all([NOBODYS_JOB, *known])
    if sorted(jobs_in(answer)) != sorted(known):
        raise Broken(f"asked about {', '.join(known)} and a job of nobody's: {answer.told}")
    return f"{len(known)} jobs"


@should(
    "A cancelled run goes on until its job ends by itself; after 15 minutes it is FAILED, and the "
    "job goes on. So does the job of a run that timed out."
)
def jobs_can_be_cancelled(trial: Trial) -> str:
    """POST /batch/cancel/{workbench_job_id} answers 200 or 202, and the job ends; then 409."""
    parameters = {**(trial.parameters or {}), **LONG_WORK}
    body = trial.body_of(Run.TO_CANCEL, parameters=parameters)
    job_id = _job_of(trial.submit(Run.TO_CANCEL, body=body))
    cancelled = trial.cancel(job_id)
    if cancelled.status == 409 and (meaning_in(trial.look(job_id)) or 0) >= COMPLETED:
        raise NotSeen("the job had ended before it could be cancelled: give it more INPUT=")
    if cancelled.status not in {200, 202}:
        raise Broken(cancelled.told)
    last = trial.looks_until_the_end(job_id)[-1]
    if (meaning_in(last) or 0) < COMPLETED:
        raise Broken(f"{cancelled.told}, and then {last.told} for {trial.patience.job:g} s")
    for job, wanted, what in ((job_id, 409, "an ended job"), (NOBODYS_JOB, 404, "no job")):
        again = trial.cancel(job)
        if again.status not in NOTHING_TO_CANCEL:
            raise Broken(f"to the cancel of {what}, not with {wanted}: {again.told}")
    return f"it ended {word_in(last)}"


@should("A run that FAILED says no more than that.")
def failures_say_why(trial: Trial) -> str:
    """A job that can't be done ends FAILED, with an error_message that says what to do."""
    nowhere = f"{trial.prefixes.input.rstrip('/')}-not-there-{trial.namespace}"
    body = trial.body_of(Run.TO_FAIL, input_path_prefix=nowhere)
    submitted = trial.submit(Run.TO_FAIL, body=body)
    if 400 <= submitted.status < 500:
        return "it is refused at once"
    last = trial.looks_until_the_end(_job_of(submitted))[-1]
    if meaning_in(last) != FAILED:
        raise Broken(f"about a job whose input isn't there, {last.told}")
    message = last.object().get("error_message")
    if not isinstance(message, str) or not message:
        raise Broken(f"about a job whose input isn't there, {last.told}, without a message")
    return f"“{message[:100]}”"


@should("Runs show that they are running, not how far they are.")
def progress_is_told(trial: Trial) -> str:
    """A status answer has progress: {done, total}, whole numbers."""
    told = _seen(trial, "progress")
    for progress in told:
        numbers = progress if isinstance(progress, dict) else {}
        done, total = numbers.get("done"), numbers.get("total")
        if type(done) is not int or type(total) is not int or not 0 <= done <= total:
            raise Broken(f"it told the progress {str(progress)[:100]}")
    return ""


@should("People with a failed run have its error_message, and no link to more.")
def logs_are_linked(trial: Trial) -> str:
    """A status answer has a logs_url, which a browser can open."""
    for url in _seen(trial, "logs_url"):
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise Broken(f"it told the logs_url {str(url)[:100]!r}")
    return ""


@should(
    "The service asks 100 jobs side by side; a Workbench that can't do so is slow for all, and "
    "checks that take more than 8 s count as failed."
)
def looks_side_by_side(trial: Trial) -> str:
    """Many status calls at once are each answered in time."""
    job_id = trial.first_job
    with ThreadPoolExecutor(LOOKS_AT_ONCE) as callers:
        looks = list(callers.map(lambda _: trial.look(job_id), range(LOOKS_AT_ONCE)))
    bad = [look for look in looks if look.status != 200 or look.seconds > look.limit_seconds]
    if bad:
        raise Broken(f"of {LOOKS_AT_ONCE} at once {len(bad)} were not answered well: {bad[0].told}")
    return f"{LOOKS_AT_ONCE} at once, {max(look.seconds for look in looks):.2f} s"


@should("The service waits as long as it thinks right, 5 s and more, and may come too soon.")
def busy_answers_say_when(trial: Trial) -> str:
    """A 429 or 503 has a Retry-After."""
    busy = [exchange for exchange in trial.wire.journal if exchange.status in BUSY]
    if not busy:
        raise NotSeen("it was never busy")
    for exchange in busy:
        if not exchange.headers.get("retry-after"):
            raise Broken(f"{exchange.told}, without one")
    return ""


@should("Pipelines with mode REALTIME can't be used; those with mode BATCH can.")
def realtime_runs_are_answered(trial: Trial) -> str:
    """POST /realtime/run answers 200 with {output}, an object."""
    answer = trial.wire.call(
        "POST",
        "/realtime/run",
        body=trial.body_of(Run.REALTIME),
        headers=[("Idempotency-Key", trial.key_of(Run.REALTIME))],
        limit_seconds=trial.patience.realtime_answer,
    )
    if answer.status != 200 or not isinstance(answer.object().get("output"), dict):
        raise Broken(answer.told)
    return ""


def _job_of(exchange: Exchange) -> str:
    job_id = named_job(exchange)
    if job_id is None:
        raise NotSeen(f"it names no job: {exchange.told}")
    return job_id


def _offered(trial: Trial, capability: str) -> None:
    if trial.capabilities.get(capability) is not True:
        raise Broken(f"GET /batch/capabilities doesn't offer {capability}")


def _seen(trial: Trial, name: str) -> list[Any]:
    """What the looks at the first job told under a name.

    Raises:
        Broken: none told anything.
    """
    looks = [look for look in trial.first_looks if word_in(look) is not None]
    told = [value for look in looks if (value := look.object().get(name)) is not None]
    if not told:
        raise Broken(f"in {len(looks)} looks at a job there was no {name}")
    return told


SHOULDS: Final = (
    keys_are_honoured,
    jobs_are_found_by_key,
    many_jobs_in_one_call,
    jobs_can_be_cancelled,
    failures_say_why,
    progress_is_told,
    logs_are_linked,
    looks_side_by_side,
    busy_answers_say_when,
    realtime_runs_are_answered,
)
