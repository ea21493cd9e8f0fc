"""What runs depend on, in the order judged."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

from infra.conformance.rules import Broken, Level, NotSeen, rule
from infra.conformance.trial import (
    BUSY,
    COMPLETED,
    JOB_ID,
    MEANINGS,
    NOBODYS_JOB,
    OK,
    Run,
    jobs_in,
    meaning_in,
    named_job,
    step_back,
    word_in,
)
from infra.conformance.wire import LARGEST_ANSWER_BYTES, json_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.conformance.trial import Trial
    from infra.conformance.wire import Exchange

must = partial(rule, Level.MUST)
ACCEPTED: Final = frozenset({200, 202})
REFUSED: Final = frozenset({400, 422})
LOOKS_AFTER_THE_END: Final = 3
OTHER_TOKEN: Final = "no-token-of-yours"  # noqa: S105 - the point of it


def _accepted(exchange: Exchange) -> str:
    """The job that a submission made.

    Raises:
        Broken: it was not accepted.
        NotSeen: it was, but names no job; other rules judge that.
    """
    if exchange.trouble:
        raise NotSeen(exchange.told)
    if exchange.status not in ACCEPTED:
        raise Broken(exchange.told)
    job_id = named_job(exchange)
    if job_id is None:
        raise NotSeen(f"it names no job: {exchange.told}")
    return job_id


@must(
    "No run gets a job: each ends FAILED, “Batch workflow submission failed”, and a job "
    "that was made all the same is nobody's."
)
def submit_names_a_job(trial: Trial) -> str:
    """POST /batch/submit answers 200 or 202 with {workbench_job_id, status}."""
    exchange = trial.first_submission
    if exchange.trouble:
        raise NotSeen(exchange.told)
    if exchange.status not in ACCEPTED:
        raise Broken(exchange.told)
    told = exchange.object()
    missing = [
        name for name in ("workbench_job_id", "status") if not isinstance(told.get(name), str)
    ]
    if missing:
        raise Broken(f"{exchange.told}, without a text as {' and '.join(missing)}")
    return ""


@must(
    "The id is refused, since it can't stand in a path: the run ends FAILED while its job goes on."
)
def job_ids_fit(trial: Trial) -> str:
    """A job's id is 1 to 255 of the characters A-Z a-z 0-9 . _ : -, and neither . nor .."""
    job_id = trial.first_submission.object().get("workbench_job_id")
    if not isinstance(job_id, str):
        raise NotSeen("the first submission names no job")
    if not JOB_ID.match(job_id):
        raise Broken(f"it calls a job {job_id[:300]!r}")
    return ""


@must(
    "Each check of the run counts as failed, and `observation.last_error` says why. The run stays "
    "as it is, and is FAILED a day after its time-out."
)
def status_tells_the_job(trial: Trial) -> str:
    """GET /batch/status/{workbench_job_id} answers 200, with that id and a status."""
    for look in trial.first_looks:
        if look.trouble or (look.is_good and json_in(look.body) is None):
            continue  # Judged by the rules about all answers.
        if look.status in BUSY and look is not trial.first_looks[-1]:
            continue  # For a while it may be.
        if look.status != OK:
            raise Broken(look.told)
        told = look.object()
        if told.get("workbench_job_id") != trial.first_job:
            raise Broken(f"{look.told}, which is not about job {trial.first_job}")
        if not isinstance(told.get("status"), str):
            raise Broken(f"{look.told}, without a text as status")
    return f"in {len(trial.first_looks)} looks"


@must(
    "An unknown word changes nothing, and the check counts as failed. The run stays as it is, and "
    "is FAILED a day after its time-out."
)
def statuses_are_known(trial: Trial) -> str:
    """Every status is one of the contract's words, in any case."""
    words = trial.first_statuses
    if not words:
        raise NotSeen("no status was told")
    strange = [word for word in words if word.upper() not in MEANINGS]
    if strange:
        raise Broken(
            f"it told the status {strange[0][:100]!r}, which is none of {', '.join(MEANINGS)}"
        )
    return " → ".join(dict.fromkeys(words))


@must("A step back is ignored, so that the run shows what is not so.")
def statuses_go_forward(trial: Trial) -> str:
    """A job's status only goes forward: from submitted to running to an end."""
    if back := step_back(trial.first_statuses):
        raise Broken(f"a job was {back[0]}, and then {back[1]}")
    return ""


@must("Runs stay active until they time out, or end FAILED.")
def a_job_completes(trial: Trial) -> str:
    """A job whose input is in order ends COMPLETED (or SUCCEEDED, SUCCESS, DONE)."""
    last = trial.first_looks[-1]
    word = word_in(last)
    if word is None:
        raise NotSeen(f"no status was told: {last.told}")
    if word.upper() not in MEANINGS:
        raise NotSeen(f"nobody knows what {word[:100]!r} means")
    meaning = MEANINGS[word.upper()]
    if meaning < COMPLETED:
        raise Broken(
            f"after {trial.patience.job:g} s job {trial.first_job} was still {word}; "
            "if it only needs longer, give it more: JOB_MINUTES=30"
        )
    if meaning > COMPLETED:
        raise Broken(
            f"job {trial.first_job} ended {word}: {last.object().get('error_message')}; "
            "if it had nothing to work on, name a prefix with files: INPUT=s3://bucket/folder "
            "(and PARAMETERS='{…}' where jobs need some)"
        )
    return ""


@must(
    "The run keeps the end seen first; if that was not the last word, it shows a wrong one. "
    "A job forgotten before its end was seen is a run FAILED, category LOST."
)
def ended_jobs_stay(trial: Trial) -> str:
    """A job that has ended stays known, and never changes again."""
    ended = word_in(trial.first_end)
    for _ in range(LOOKS_AFTER_THE_END):
        look = trial.look(trial.first_job)
        if look.status == 404:
            raise Broken(f"job {trial.first_job} had ended as {ended}, and then {look.told}")
        if not look.is_good or meaning_in(look) is None:
            raise NotSeen(look.told)
        if meaning_in(look) != meaning_in(trial.first_end):
            raise Broken(
                f"job {trial.first_job} had ended as {ended}, and then it was {word_in(look)}"
            )
    return ""


@must("A job that is lost is never noticed: its run stays active until it times out.")
def unknown_jobs_are_404(trial: Trial) -> str:
    """A job that it doesn't know is answered 404."""
    look = trial.look(NOBODYS_JOB)
    if look.trouble:
        raise NotSeen(look.told)
    if look.status != 404:
        raise Broken(look.told)
    return ""


@must("No submission arrives: every run ends FAILED.")
def conductors_bodies_are_read(trial: Trial) -> str:
    """A body may be chunked, and may come with two Content-Type lines: Conductor's do."""
    raw = json.dumps(trial.body_of(Run.AS_CONDUCTOR_SENDS)).encode()
    middle = len(raw) // 2
    exchange = trial.submit(
        Run.AS_CONDUCTOR_SENDS,
        content=iter([raw[:middle], raw[middle:]]),
        headers=[
            ("Content-Type", "application/json"),
            ("Content-Type", "application/json;charset=UTF-8"),
        ],
    )
    _accepted(exchange)
    return ""


@must("Runs of people who use them end FAILED, and so may all after an update of the service.")
def optional_fields_may_vary(trial: Trial) -> str:
    """Report prefix and parameters may be given, null or left out; other fields are ignored."""
    bare = trial.body_of(Run.BARE)
    del bare["report_path_prefix"]
    if not trial.parameters:
        del bare["parameters"]
    full = trial.body_of(
        Run.FULL,
        report_path_prefix=f"{trial.prefixes.report}/full",
        parameters=dict(trial.parameters or {}) | {"conformance": ["anything", None]},
        a_field_of_later=1,
    )
    for run, body, what in (
        (Run.BARE, bare, "a body without report_path_prefix and parameters"),
        (Run.FULL, full, "a body with a report prefix, unknown parameters and an unknown field"),
    ):
        try:
            _accepted(trial.submit(run, body=body))
        except Broken as error:
            raise Broken(f"to {what}: {error}") from error
    return ""


@must("Two runs share a job: one of them never happens, and cancelling one ends both.")
def other_keys_make_other_jobs(trial: Trial) -> str:
    """Each submission under another key, or without one, is a job of its own."""
    known = {trial.first_job, *trial.submissions_accepted}
    without_key = [trial.submit(Run.WITHOUT_KEY, with_key=False) for _ in range(2)]
    named = [named_job(exchange) for exchange in without_key]
    if None in named:
        raise NotSeen(f"a submission without a key names no job: {without_key[0].told}")
    if named[0] == named[1] or known & set(named):
        raise Broken(f"submissions without a key got jobs that there were already: {named}")
    made = trial.submissions_accepted
    for job_id, owners in made.items():
        if len(owners) > 1:
            raise Broken(
                f"submissions under different keys, for runs {_listed(owners)}, got one job, "
                f"{job_id}"
            )
    return f"{len(made)} jobs"


@must(
    "What nobody meant is carried out, or nobody is told why a run FAILED. After a 5xx a job may "
    "exist, which is hunted for."
)
def wrong_bodies_are_refused(trial: Trial) -> str:
    """A body that names no job is answered 400 or 422, with `error` saying what is wrong."""
    without_input = trial.body_of(Run.WRONG)
    del without_input["input_path_prefix"]
    is_json = [("Content-Type", "application/json")]
    for what, call in (
        ("a body without input_path_prefix", {"body": without_input}),
        ("a body that is no JSON", {"content": b'{"pipeline_run_id": 6', "headers": is_json}),
    ):
        exchange = trial.submit(Run.WRONG, **call)
        if exchange.trouble:
            raise NotSeen(exchange.told)
        if exchange.status not in REFUSED:
            raise Broken(f"to {what}: {exchange.told}")
        error = exchange.object().get("error")
        if not isinstance(error, str) or not error:
            raise Broken(f"to {what}: {exchange.told}, without a text as error")
    return ""


@must("Anybody who reaches the Workbench submits and cancels jobs.")
def tokens_are_checked(trial: Trial) -> str:
    """Where it wants a token, calls without it or with another get 401, and nothing happens."""
    if not trial.has_token:
        raise NotSeen("no WORKBENCH_TOKEN was given: whoever reaches it may use it")
    for token, what in (("", "no token"), (OTHER_TOKEN, "another token")):
        for exchange in (
            trial.wire.call("GET", f"/batch/status/{NOBODYS_JOB}", token=token),
            trial.submit(Run.WITHOUT_TOKEN, token=token),
        ):
            if exchange.trouble:
                raise NotSeen(exchange.told)
            if exchange.status != 401:
                raise Broken(f"with {what}: {exchange.told}")
    return ""


@must(
    "Bulk status: each check costs a call in vain. Client reference: second jobs are hunted "
    "for, and not found."
)
def capabilities_are_true(trial: Trial) -> str:
    """What GET /batch/capabilities offers, is there."""
    offered = trial.capabilities
    if offered.get("bulk_status") is True:
        answer = trial.look_at_all([NOBODYS_JOB, trial.first_job])
        if not answer.trouble and jobs_in(answer) != [trial.first_job]:
            raise Broken(
                f"it offers bulk_status, and asked about job {trial.first_job} and one of "
                f"nobody's, {answer.told}"
            )
    if offered.get("client_reference") is True:
        answer = trial.find(f"{trial.namespace}-unused")
        if not answer.trouble and (answer.status != OK or jobs_in(answer)):
            raise Broken(f"it offers client_reference, and of a key never used, {answer.told}")
        answer = trial.find(trial.key_of(Run.FIRST))
        if not answer.trouble and trial.first_job not in jobs_in(answer):
            raise Broken(f"it offers client_reference, and of a used key, {answer.told}")
    names = [name for name in ("bulk_status", "client_reference") if offered.get(name) is True]
    return f"it offers {' and '.join(names) or 'neither'}"


# -- about all answers ----------------------------------------------------------------------------


@must(
    "A submission is repeated under its key, and given up after 5 minutes; a check counts as "
    "failed, and a Workbench that goes on so is spared for a while."
)
def answers_come_in_time(trial: Trial) -> str:
    """Every call is answered, within 8 s (realtime runs: 60 s)."""
    for exchange in trial.wire.journal:
        if exchange.trouble:
            raise Broken(exchange.told)
        if exchange.seconds > exchange.limit_seconds:
            raise Broken(f"{exchange.call} took {exchange.seconds:.1f} s")
    slowest = max(exchange.seconds for exchange in trial.wire.journal)
    return f"the slowest of {len(trial.wire.journal)} took {slowest:.2f} s"


@must("It isn't read to its end, and counts as none.")
def answers_are_small(trial: Trial) -> str:
    """An answer has at most 256 KiB."""
    for exchange in trial.wire.journal:
        if len(exchange.body) > LARGEST_ANSWER_BYTES:
            raise Broken(f"{exchange.call} answered more than {LARGEST_ANSWER_BYTES // 1024} KiB")
    return ""


@must(
    "It counts as none: Conductor finds no job id in it (the run ends FAILED), and a check "
    "finds no status."
)
def answers_are_json(trial: Trial) -> str:
    """An answer of 2xx is a JSON object, as application/json, and not packed."""
    for exchange in trial.wire.journal:
        if not exchange.is_good or exchange.trouble:
            continue
        if exchange.path.startswith("/batch/cancel/") and not exchange.body.strip():
            continue  # Nobody reads more of it than its status.
        kind = exchange.headers.get("content-type", "no Content-Type")
        packed = exchange.headers.get("content-encoding", "identity")
        if packed.lower() != "identity":
            raise Broken(f"{exchange.call} was packed ({packed}) though that was not asked for")
        if not kind.startswith("application/json"):
            raise Broken(f"{exchange.told}, as {kind}")
        whole = len(exchange.body) <= LARGEST_ANSWER_BYTES
        if whole and not isinstance(json_in(exchange.body), dict):
            raise Broken(f"{exchange.told}, which is no JSON object")
    return ""


@must(
    "Redirects aren't followed by checks; Conductor turns some into a GET and takes that "
    "for success, so that runs end FAILED without a job."
)
def answers_do_not_redirect(trial: Trial) -> str:
    """No answer is a redirect: WORKBENCH_API_URL is where it really is."""
    for exchange in trial.wire.journal:
        if 300 <= exchange.status < 400:
            where = exchange.headers.get("location", "nowhere")
            raise Broken(f"{exchange.call} answered {exchange.status}, to {where}")
    return ""


def _listed(owners: Iterable[Run]) -> str:
    return " and ".join(str(run.value) for run in sorted(owners))


MUSTS: Final = (
    submit_names_a_job,
    job_ids_fit,
    status_tells_the_job,
    statuses_are_known,
    statuses_go_forward,
    a_job_completes,
    ended_jobs_stay,
    unknown_jobs_are_404,
    conductors_bodies_are_read,
    optional_fields_may_vary,
    other_keys_make_other_jobs,
    wrong_bodies_are_refused,
    tokens_are_checked,
    capabilities_are_true,
)
ABOUT_ALL_ANSWERS: Final = (
    answers_come_in_time,
    answers_are_small,
    answers_are_json,
    answers_do_not_redirect,
)
"""Judged when all has been asked."""
