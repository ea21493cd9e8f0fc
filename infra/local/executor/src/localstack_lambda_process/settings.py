"""The plugin's settings, from the variables of LocalStack's process."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class UnusableSettings(Exception):
    """A setting is missing or wrong; the text names it and says what to do."""


@dataclass(frozen=True)
class Settings:
    """What the one who starts LocalStack decides."""

    python: str
    echo: bool

    @classmethod
    def from_variables(cls, variables: Mapping[str, str]) -> Settings:
        """Reads and checks the settings.

        Raises:
            UnusableSettings: LAMBDA_PROCESS_PYTHON is missing or isn't a program.
        """
        python = variables.get("LAMBDA_PROCESS_PYTHON", "")
        if shutil.which(python) is None:
            raise UnusableSettings(
                f"LAMBDA_PROCESS_PYTHON is {python!r}: start LocalStack with the path of a Python "
                "that has awslambdaric."
            )
        return cls(python=python, echo=variables.get("LAMBDA_PROCESS_ECHO") == "1")
