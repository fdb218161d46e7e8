"""The table on disk that every run keeps: metrics.csv with columns step, epoch, name, value."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from dgm import files

HEADER = "step,epoch,name,value\n"


class Table(Logger):
    """Appends a row per value. A resumed run first drops the rows after its checkpoint."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        self.rows: list[str] = []

    @property
    def name(self) -> str:
        """Kind of logger."""
        return "table"

    @property
    def version(self) -> int:
        """Always the first: a run has one table."""
        return 0

    @property
    @rank_zero_experiment
    def experiment(self) -> "Table":
        """Itself."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config lies beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One row per value."""
        epoch = int(metrics.get("epoch", 0))
        self.rows += [f"{step},{epoch},{name},{float(value)!r}\n" for name, value in metrics.items() if name != "epoch"]
        if len(self.rows) >= 200:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Append what has gathered to the file."""
        if not self.rows:
            return
        new = not self.path.exists()
        with self.path.open("a") as file:
            file.write(HEADER * new + "".join(self.rows))
        self.rows = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rest."""
        self.save()

    def rewind(self, step: int) -> None:
        """Forget rows of updates after `step`, which a resumed run will write again."""
        if self.path.exists():
            lines = self.path.read_text().split("\n")[1:-1]  # a line cut off by the end of a process has no end
            kept = [line for line in lines if int(line.split(",", 1)[0]) < step]
            files.write(self.path, HEADER + "".join(line + "\n" for line in kept))
