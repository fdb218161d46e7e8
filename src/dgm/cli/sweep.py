"""`dgm train -m`: every combination of the swept values, then one table over all of them."""

import sys
from typing import Any

from hydra.core.utils import JobStatus

from dgm.cli.compose import tree
from dgm.cli.main import sentence


def sweep(words: list[str], job: Any) -> int:
    """Run all points; exit code 1 where any of them failed."""
    with tree(words) as (hydra, overrides):
        jobs = hydra.multirun("train", job, overrides, with_log_configuration=False)
    failed = [job for job in jobs if job.status is not JobStatus.COMPLETED]
    for one in failed:
        print(f"Failed: {' '.join(one.overrides)}: {sentence(one._return_value)}", file=sys.stderr)
    from dgm.cli.table import summary

    summary([job.return_value for job in jobs if job.status is JobStatus.COMPLETED])
    print(f"{len(jobs) - len(failed)} of {len(jobs)} jobs done", file=sys.stderr)
    return 1 if failed else 0
