"""What the tests of the Python API have, for scripts that use it."""

from tests.api.conftest import no_bars

__all__ = ["no_bars"]
