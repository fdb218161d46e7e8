"""What a sweep set out to do, on disk before its first job: sweep-HASH.json in the study's folder.

{"overrides": words of the command, "runs": names of the run folders, "jobs": how many side by side}
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from dgm.files import write


def plan(folder: Path, overrides: list[str], runs: list[str], jobs: int) -> None:
    """Write it. A study may hold several; the same sweep begun again writes the same."""
    content = {"overrides": overrides, "runs": runs, "jobs": jobs}
    digest = hashlib.blake2b(json.dumps(runs).encode(), digest_size=5).hexdigest()
    write(folder / f"sweep-{digest}.json", json.dumps(content, indent=1) + "\n")


def planned(folder: str | Path) -> list[dict[str, Any]]:
    """All plans at or below a folder."""
    return [json.loads(path.read_text()) for path in sorted(Path(folder).rglob("sweep-*.json"))]
