"""`dgm export`: a run's weights as safetensors, with a json beside them that says what they are."""

import hashlib
import json
from pathlib import Path

from safetensors.torch import save

from dgm.cli.table import Parser
from dgm.configs import ConfigError
from dgm.files import write
from dgm.runs import Run


def command(arguments: list[str]) -> int:
    """Write RUN/export.safetensors and .json, or FILE and its json; print the paths."""
    parser = Parser("dgm export", description="A run's weights, those that are evaluated, as safetensors and a json.")
    parser.add_argument("run", help="the folder of a run")
    parser.add_argument("--out", help="the file to write; else RUN/export.safetensors")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    options = parser.parse_args(arguments)
    run = Run.open(options.run)
    weights = Path(options.out or run.path("export.safetensors"))
    facts = weights.with_suffix(".json")
    for path in (weights, facts):
        if path.exists() and not options.force:
            raise ConfigError(f"--out={weights}: {path.name} is there already; --force replaces it")
    content = save({name: tensor.contiguous() for name, tensor in run.model().state_dict().items()})
    write(weights, content)
    write(facts, json.dumps(described(run, content), indent=1, default=str) + "\n")
    print(weights, facts, sep="\n")
    return 0


def described(run: Run, content: bytes) -> dict[str, object]:
    """What one must know to use the weights: `_target_` and arguments of the model, what was measured, by what code."""
    known = run.provenance
    return {
        "run": run.folder.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "config": run.config,
        "values": run.values,
        **{key: known.get(key) for key in ("overrides", "dgm", "commit", "versions", "data")},
    }
