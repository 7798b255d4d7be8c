"""Where secrets are: on the command line and in a job's description stand their places, never they themselves."""

from __future__ import annotations

import os

import msgspec
from apache_beam.io.filesystems import FileSystems

from fraud_pipeline.errors import UsageError

_ENVIRONMENT = "env:"
_MAX_BYTES = 64 * 1024


class Place(msgspec.Struct, frozen=True):
    """Where a secret is: `env:NAME`, or the path of a file, local or of a file system that Beam knows (`gs://`)."""

    name: str

    def read(self) -> bytes:
        """The secret, without white space around it.

        Raises:
          UsageError: it isn't there, or empty. The message has its place, not its value.
        """
        if self.name.startswith(_ENVIRONMENT):
            variable = self.name.removeprefix(_ENVIRONMENT)
            secret = os.environ.get(variable, "").strip().encode()
            if not secret:
                raise UsageError(f"the environment variable {variable} is not set; set it to the secret")
            return secret
        try:
            with FileSystems.open(self.name) as file:
                secret = file.read(_MAX_BYTES).strip()
        except (OSError, ValueError) as error:
            why = type(error).__name__
            raise UsageError(f"{self.name!r} can't be read ({why}); give a file with the secret") from error
        if not secret:
            raise UsageError(f"{self.name!r} is empty; put the secret into it")
        return bytes(secret)

    def check_reachable_by_workers(self, option: str) -> None:
        """Refuses a place that workers of another machine can't read.

        Raises:
          UsageError: it is an environment variable or a local file.
        """
        if not self.name.startswith("gs://"):
            raise UsageError(
                f"{option} {self.name!r} is of this machine, and workers can't read it; give gs://bucket/path"
            )
