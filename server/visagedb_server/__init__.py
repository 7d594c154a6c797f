"""The gRPC server of VisageDB."""

from typing import Final

DEFAULT_PORT: Final = 50700
