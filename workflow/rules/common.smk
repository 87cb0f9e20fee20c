from pathlib import Path

from pipeline.provenance import source_digest


RESULTS = f"results/{config['campaign']}"
SHARED = "results/shared"
LOGS = f"logs/{config['campaign']}"
SEED = config["seed"]
PARTS = [f"{part:04d}" for part in range(config["sampling"]["partitions"])]
JOBS = [f"{job:04d}" for job in range(config["sampling"]["jobs"])]


def growing(amount):
    """A resource that grows with each attempt, for memory (MB) and time (minutes)."""
    return lambda wildcards, attempt: int(amount * attempt)


def source_stamp(source):
    """Size and time of the user's files, so that a new database under an old name is read again."""
    paths = [Path(source[key]).expanduser() for key in ("path", "structures") if source.get(key)]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.exists()]


def states_file(oxidation_states):
    """The user's own file of oxidation states as an input, nothing for a set by name."""
    return [oxidation_states] if Path(oxidation_states).is_file() else []
