"""The profiler that is in place when nobody profiles."""

from contextlib import AbstractContextManager, nullcontext

from pytorch_lightning.profilers import Profiler

NOTHING = nullcontext()


class Silent(Profiler):
    """Measures nothing, at no cost: Lightning's own default makes a generator for each hook of each callback."""

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def profile(self, action_name: str) -> AbstractContextManager:  # type: ignore[override]
        """A context that does nothing."""
        return NOTHING
