"""Requests come in."""

from typing import Final

VERSION: Final = "1.0.0"
"""Of the API's contract."""
