import os
import re
from pathlib import Path

from pipeline.provenance import source_digest

RESULTS = f"results/{config['campaign']}"
MODELS = config["screening"]["models"]
COMMAND = " --configfile ".join(["snakemake --cores 2", *map(str, workflow.overwrite_configfiles or [])])
LOGS = f"logs/{config['campaign']}"
SEED = config["seed"]
PARTS = [f"{part:04d}" for part in range(config["sampling"]["partitions"])]
JOBS = [f"{job:04d}" for job in range(config["sampling"]["jobs"])]


def fail(message):
    """End with one line for the user."""
    raise SystemExit(f"kimberlite: {message}")


def check_writable(folder):
    """End with one line where results could not be written, before any work is done."""
    nearest = next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        fail(f"folder '{folder}' cannot be written: '{nearest}' is no folder that you may write in; run elsewhere")


def growing(amount):
    """A resource that grows with each attempt, for memory (MB) and time (minutes)."""
    return lambda wildcards, attempt: int(amount * attempt)


def with_paths(source):
    """The database's source with `~` and environment variables in its paths replaced."""
    paths = {
        key: os.path.expanduser(os.path.expandvars(source[key])) for key in ("path", "structures") if key in source
    }
    for key, path in paths.items():
        if "$" in path:
            fail(f"database.source.{key}: '{path}' names an environment variable that is not set; export it")
        if not Path(path).exists():
            fail(f"database.source.{key}: '{path}' does not exist; relative paths start at {Path.cwd()}")
    return source | paths


def stamp(source):
    """Names, sizes and times of the user's files, so that a new database under an old name is read again."""
    files = []
    for path in [Path(source[key]) for key in ("path", "structures") if key in source]:
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def states_file(oxidation_states):
    """The user's own file of oxidation states as an input, nothing for a set by name."""
    if re.search("[./]", oxidation_states) and not Path(oxidation_states).is_file():
        fail(f"filtering.oxidation_states: no file '{oxidation_states}'; give one, or the name of a set")
    return [oxidation_states] if Path(oxidation_states).is_file() else []


def model_folder(target):
    """Folder of the property model that screens for `target`: the config's, or the one that this campaign trains."""
    chosen = MODELS[target]
    return f"{RESULTS}/screening/models/{target}" if chosen == "train" else Path(workflow.basedir) / chosen


def model_files(target):
    """The files of that folder that say what it predicts, so that other weights are seen as another input."""
    folder = model_folder(target)
    if MODELS[target] == "train":
        return [f"{folder}/model.json"]
    if not (folder / "model.json").is_file():
        fail(f"screening.models.{target}: '{MODELS[target]}' is no folder of a model; give one, or write 'train'")
    weights = sorted(str(path) for path in folder.glob("*") if path.suffix in (".safetensors", ".gz"))
    return [f"{folder}/model.json", *weights]


check_writable(RESULTS)
check_writable(LOGS)
