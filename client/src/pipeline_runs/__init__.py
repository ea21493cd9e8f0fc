"""The client of the pipeline runs service; `Client` is where to begin, `errors` what it raises."""

from pipeline_runs import errors, models
from pipeline_runs.calls import Patience, Surroundings
from pipeline_runs.client import Client
from pipeline_runs.connections import connect
from pipeline_runs.errors import PipelineRunsError
from pipeline_runs.models import Mode, NewPipeline, Pipeline, PipelineChanges, PipelineRun, Status

__all__ = [
    "Client",
    "Mode",
    "NewPipeline",
    "Patience",
    "Pipeline",
    "PipelineChanges",
    "PipelineRun",
    "PipelineRunsError",
    "Status",
    "Surroundings",
    "connect",
    "errors",
    "models",
]
