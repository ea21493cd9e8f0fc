"""The environment variables that a function's process gets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# All that a function sees of LocalStack's own environment. The last is the mark by which the local
# stack finds its processes.
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIPELINE_RUNS_STACK",
)


def function_variables(
    *,
    localstack: Mapping[str, str],
    function: Mapping[str, object],
    code: Path,
    bytecode: Path,
) -> dict[str, str]:
    """The variables of one environment, but for the address of its Runtime API.

    Args:
        localstack: The environment of LocalStack itself.
        function: What LocalStack sets for the function, the function's own variables included;
            some values are numbers.
        code: The folder of the function's code.
        bytecode: Where Python keeps what it compiles: the code folder stays as it is.
    """
    inherited = {name: localstack[name] for name in INHERITED if name in localstack}
    set_for_it = {name: str(value) for name, value in function.items()}
    search_path = [str(code), set_for_it.get("PYTHONPATH", "")]
    return {
        **inherited,
        **set_for_it,
        "LAMBDA_TASK_ROOT": str(code),
        "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
        "PYTHONPYCACHEPREFIX": str(bytecode),
    }
