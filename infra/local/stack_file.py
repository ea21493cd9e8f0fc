"""`.local/stack.json`: what runs where, for whoever works with the stack."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from infra.local.files import read_json, write_json

if TYPE_CHECKING:
    from infra.local.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack that is up; its fields are the file's keys.

    Attributes:
        api_token: Opens the API for the tenant `default`, for a month.
        storage_path: The bucket's folder; None for an external storage.
        workbench_journal_path: Where our Workbench notes each call; None for an external one.
        external_parts: Those that were given in place of ours.
        up_seconds: How long the last `up` took.
    """

    api_url: str
    api_token: str
    dashboard_url: str
    database_url: str
    conductor_url: str
    workbench_url: str
    storage_endpoint_url: str
    storage_bucket: str
    storage_path: str | None
    storage_access_key_id: str
    storage_secret_access_key: str
    workbench_journal_path: str | None
    aws_endpoint_url: str
    aws_region: str
    check_queue_url: str
    retry_queue_url: str
    check_dlq_url: str
    tick_queue_url: str
    event_bus_name: str
    api_function_name: str
    tick_function_name: str
    check_function_name: str
    relay_function_name: str
    hunt_function_name: str
    survey_function_name: str
    purge_function_name: str
    poll_interval_seconds: int
    external_parts: tuple[str, ...]
    up_seconds: float


def write_stack(layout: Layout, stack: Stack) -> None:
    """Whole, and readable by its owner alone: it holds passwords."""
    content = {key: value for key, value in asdict(stack).items() if value is not None}
    write_json(layout.stack_file, content)


def read_stack(layout: Layout) -> Stack | None:
    """The stack that is up; None when there is none."""
    content = read_json(layout.stack_file)
    known = {field.name: content.get(field.name) for field in fields(Stack)}
    if content.get("api_url") is None:
        return None
    known["external_parts"] = tuple(content.get("external_parts", ()))
    return Stack(**known)  # type: ignore[arg-type]  # as write_stack wrote them
