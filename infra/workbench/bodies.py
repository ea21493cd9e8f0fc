"""What callers send, checked: JSON in, frozen values out, or a readable refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from infra.workbench.prefixes import InvalidPrefix, Prefix, parse_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_PAUSE_SECONDS = 600.0
MAX_BULK_IDS = 100
MAX_KEY_LENGTH = 255
MAX_RUN_ID = 2**63 - 1


class MalformedBody(ValueError):
    """A body isn't JSON."""


class InvalidBody(ValueError):
    """A body is JSON, and not what the call takes; every fault is named."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a job is to do.

    Attributes:
        report_prefix: None asks for no report.
        parameters: As sent; this Workbench reads `queue_seconds` and `work_seconds` of them.
    """

    pipeline_run_id: int
    input_prefix: Prefix
    output_prefix: Prefix
    report_prefix: Prefix | None
    parameters: Mapping[str, Any]

    @property
    def queue_seconds(self) -> float:
        """How long the job stays QUEUED at least."""
        return float(self.parameters.get("queue_seconds", 0))

    @property
    def work_seconds(self) -> float:
        """How long the job stays RUNNING at least."""
        return float(self.parameters.get("work_seconds", 0))


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """What a realtime run is to look at."""

    pipeline_run_id: int
    input_prefix: Prefix
    work_seconds: float


def parse_json(raw: bytes) -> Any:
    """Strict JSON: no NaN, no text that isn't Unicode.

    Raises:
        MalformedBody: It is none.
    """
    try:
        value = json.loads(raw, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"The body is not JSON: {error}") from error
    return value


def parse_submission(body: Any, *, default_bucket: str | None) -> Submission:
    """Reads the body of `POST /batch/submit`; fields it doesn't know are ignored.

    Raises:
        InvalidBody: Something is missing or wrong.
    """
    fields = _Fields(body, default_bucket)
    run_id = fields.run_id()
    source = fields.prefix("input_path_prefix")
    target = fields.prefix("output_path_prefix")
    report = None if fields.is_null("report_path_prefix") else fields.prefix("report_path_prefix")
    parameters = fields.parameters()
    for name, place in (("output_path_prefix", target), ("report_path_prefix", report)):
        if not fields.faults and place == source:
            fields.faults.append(f"{name} must not be the same as input_path_prefix")
    fields.raise_faults()
    return Submission(
        pipeline_run_id=run_id,
        input_prefix=source,
        output_prefix=target,
        report_prefix=report,
        parameters=parameters,
    )


def parse_profile_request(body: Any, *, default_bucket: str | None) -> ProfileRequest:
    """Reads the body of `POST /realtime/run`; fields it doesn't know are ignored.

    Raises:
        InvalidBody: Something is missing or wrong.
    """
    fields = _Fields(body, default_bucket)
    run_id = fields.run_id()
    source = fields.prefix("input_path_prefix")
    parameters = fields.parameters()
    fields.raise_faults()
    return ProfileRequest(
        pipeline_run_id=run_id,
        input_prefix=source,
        work_seconds=float(parameters.get("work_seconds", 0)),
    )


def parse_job_ids(body: Any) -> tuple[str, ...]:
    """Reads the body of `POST /batch/status`.

    Raises:
        InvalidBody: It isn't a list of at most 100 texts.
    """
    ids = body.get("workbench_job_ids") if isinstance(body, dict) else None
    if not isinstance(ids, list) or not all(isinstance(job_id, str) for job_id in ids):
        raise InvalidBody("workbench_job_ids must be a list of texts")
    if len(ids) > MAX_BULK_IDS:
        raise InvalidBody(f"workbench_job_ids must not be more than {MAX_BULK_IDS}")
    return tuple(ids)


def parse_idempotency_key(text: str | None) -> str | None:
    """Reads the header Idempotency-Key: 1 to 255 visible ASCII characters.

    Raises:
        InvalidBody: It is none.
    """
    if text is None:
        return None
    visible = all("!" <= character <= "~" for character in text)
    if not (visible and 1 <= len(text) <= MAX_KEY_LENGTH):
        raise InvalidBody(f"Idempotency-Key must be 1 to {MAX_KEY_LENGTH} visible ASCII characters")
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class _Fields:
    """Reads fields one by one and gathers the faults, so that a caller learns of all at once."""

    NOWHERE = Prefix("", "")

    def __init__(self, body: Any, default_bucket: str | None) -> None:
        if not isinstance(body, dict):
            raise InvalidBody("The body must be a JSON object")
        self._body: dict[str, Any] = body
        self._default_bucket = default_bucket
        self.faults: list[str] = []

    def raise_faults(self) -> None:
        if self.faults:
            raise InvalidBody("; ".join(self.faults))

    def is_null(self, name: str) -> bool:
        return self._body.get(name) is None

    def run_id(self) -> int:
        value = self._body.get("pipeline_run_id")
        if type(value) is int and 1 <= value <= MAX_RUN_ID:
            return value
        self.faults.append("pipeline_run_id must be a whole number, 1 or more")
        return 0

    def prefix(self, name: str) -> Prefix:
        text = self._body.get(name)
        if not isinstance(text, str):
            self.faults.append(f"{name} must be a text")
            return self.NOWHERE
        try:
            return parse_prefix(text, default_bucket=self._default_bucket)
        except InvalidPrefix as fault:
            self.faults.append(f"{name} {fault}")
            return self.NOWHERE

    def parameters(self) -> dict[str, Any]:
        parameters = self._body.get("parameters")
        if parameters is None:
            return {}
        if not isinstance(parameters, dict):
            self.faults.append("parameters must be a JSON object")
            return {}
        for name in ("queue_seconds", "work_seconds"):
            if name in parameters and not _is_pause(parameters[name]):
                self.faults.append(f"parameters.{name} must be 0 to {MAX_PAUSE_SECONDS:.0f}")
        return parameters


def _is_pause(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= MAX_PAUSE_SECONDS
