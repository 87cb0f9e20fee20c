import hashlib
import json
import os
import re
import shlex
from pathlib import Path

from pipeline.database.remote import HOW, REMOTE, SAID, asked, beside, holds_password
from pipeline.locks import check_run, claim
from pipeline.provenance import seal_of, source_digest

RESULTS = f"results/{config['campaign']}"
MODELS = {target: folder for target, folder in config["screening"]["models"].items() if folder is not None}
TABLES = config["screening"]["training"]["tables"]
OVERLAYS = [os.path.relpath(path) for path in workflow.overwrite_configfiles or []]
# By the environment: as a parameter, another overlay with the same content would make the report anew.
OVERLAY_OPTION = ["--configfile", *OVERLAYS] if OVERLAYS else []
os.environ.update(KIMBERLITE_COMMAND=shlex.join(["snakemake", "--cores", "2", *OVERLAY_OPTION]))
LOGS = f"logs/{config['campaign']}"
SEED = config["seed"]
EDITED = "the config was edited since this run began; put it back, or end the run and start it again"
# As many jobs draw as there are partitions of the tables; two at least, for two cores.
N_SHARDS = max(2, -(-config["sampling"]["n_samples"] // config["sampling"]["shard_size"]))
SHARDS = [f"{shard:04d}" for shard in range(N_SHARDS)]
SHARD_FILE = re.compile(r"(part-\d{4}|job-\d{4}-of-\d{4})\.(parquet|json)")
TABLES_OF_SHARDS = (
    "sampling/drawn",
    "sampling/samples",
    "filtering/filtered",
    "screening/predicted",
    "screening/screened",
)


def fail(message):
    """End with one line for the user."""
    raise SystemExit(f"kimberlite: {message}")


def check_job():
    """End a job on a cluster that would read another config than its run, or whose run another has followed."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    if workflow.is_main_process:
        os.environ.update(KIMBERLITE_CONFIG=digest)
        return
    if os.getenv("KIMBERLITE_CONFIG", digest) != digest:
        fail(EDITED)
    try:
        check_run(LOGS)
    except (ValueError, OSError) as error:
        fail(error)


def config_files():
    """What the config's files hold now."""
    paths = [Path(path) for path in (f"{workflow.basedir}/config/config.yaml", *OVERLAYS)]
    return [path.read_bytes() if path.is_file() else None for path in paths]


def begin():
    """Take the campaign for this run."""
    global LOCK  # open as long as this process lives
    try:
        LOCK = claim(LOGS, config["campaign"])
    except (ValueError, OSError) as error:
        fail(error)


def tidy():
    """Remove the shards of an earlier, other number from the tables that are whole in this one."""
    names = {name for shard in SHARDS for name in (f"part-{shard}", f"job-{shard}-of-{N_SHARDS:04d}")}
    for folder in TABLES_OF_SHARDS:
        found = [path for path in Path(RESULTS, folder).glob("*") if SHARD_FILE.fullmatch(path.name)]
        if len({path.stem for path in found} & names) == N_SHARDS:
            for path in found:
                if path.stem not in names:
                    path.unlink()
                    seal_of(path).unlink(missing_ok=True)


def check_writable(folder):
    """End with one line where results could not be written, before any work is done."""
    nearest = next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        fail(f"folder '{folder}' cannot be written: '{nearest}' is no folder that you may write in; run elsewhere")


def needs(mem_mb, runtime, gpu=False):
    """A rule's resources: memory (MB) and minutes, which grow with each attempt, and what the site calls the rest."""
    cluster = config["cluster"]
    partition = (gpu and cluster["gpu_partition"]) or cluster["partition"]
    resources = {
        "mem_mb": lambda wildcards, attempt: mem_mb * attempt,
        "runtime": lambda wildcards, attempt: runtime * attempt,
        "slurm_account": cluster["account"],
        "slurm_partition": partition,
        **(gpu_resources(cluster["gpu"]) if gpu and cluster["gpu"] else {}),
    }
    return {name: value for name, value in resources.items() if value is not None}


def gpu_resources(option):
    """sbatch's option (`--gpus=a100:1`, `--gres=gpu:a100:1`, `--gpus-per-node=...`) in the Slurm executor's names."""
    name, value = option.removeprefix("--").split("=")
    if name == "gres":
        return {"gres": value}
    if name == "gpus-per-node":
        return {"slurm_extra": option}
    *model, number = value.split(":")
    return {"gpu": int(number), **({"gpu_model": model[0]} if model else {})}


FILES_OF_SOURCE = ("path", "structures", "snapshot")


def with_paths(source):
    """A source of the database with `~` and environment variables in its paths replaced, without how it is asked."""
    if holds_password(source.get("url", "")):
        fail(
            f"database.sources: url of '{source['name']}' holds a password, which would be kept with the data; "
            "give it in the environment (docs/databases.md)"
        )
    paths = {key: os.path.expanduser(os.path.expandvars(source[key])) for key in FILES_OF_SOURCE if key in source}
    for key, path in paths.items():
        place = f"database.sources: {key} of '{source['name']}': '{path}'"
        if "$" in path:
            fail(f"{place} names an environment variable that is not set; export it")
        if not Path(path).exists():
            fail(f"{place} does not exist; relative paths start at {Path.cwd()}")
    return {key: value for key, value in source.items() if key not in HOW} | paths


def snapshot(name):
    """What is fetched of a source, nothing of one that lies in files."""
    return {"snapshot": f"{RESULTS}/database/{name}/snapshot.jsonl.gz"} if name in FETCHED else {}


def about(name):
    """What fetching wrote of a source, or what lies beside the snapshot that the user gives; None of one in files."""
    if name in FETCHED:
        return f"{RESULTS}/database/{name}/snapshot.json"
    path = beside(SOURCES[name]["snapshot"]) if "snapshot" in SOURCES[name] else None
    return str(path) if path and path.is_file() else None


def is_fetched(name):
    """Whether the snapshot of just this query is there."""
    try:
        about_it = json.loads(Path(about(name)).read_text())
        return about_it["source"] == asked(SOURCES[name]) and Path(snapshot(name)["snapshot"]).is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def reader(source):
    """The modules that read a source of that kind."""
    remote = [f"pipeline.database.remote.{source['kind']}"] if source["kind"] in REMOTE else []
    return ["pipeline.database.stage", *remote]


def stamp(source):
    """Names, sizes and times of the user's files, so that a new database under an old name is read again."""
    files = []
    for path in [Path(source[key]) for key in FILES_OF_SOURCE if key in source]:
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
    shipped = os.path.relpath(Path(workflow.basedir) / os.path.expanduser(os.path.expandvars(chosen)))
    # Relative, so that a moved checkout has nothing to do again.
    return Path(f"{RESULTS}/screening/models/{target}" if chosen == "train" else shipped)


def model_files(target):
    """The files of that folder that say what it predicts, so that other weights are seen as another input."""
    folder = model_folder(target)
    if MODELS[target] == "train":
        return [f"{folder}/model.json"]
    if not (folder / "model.json").is_file():
        fail(f"screening.models.{target}: '{MODELS[target]}' is no folder of a model; give one, or write 'train'")
    try:
        predicts = json.loads((folder / "model.json").read_text())["target"]
    except (OSError, ValueError, LookupError, TypeError):
        predicts = "nothing that can be read"
    if predicts != target:
        fail(f"screening.models.{target}: '{MODELS[target]}' predicts {predicts}; give a model of the property")
    weights = sorted(str(path) for path in folder.glob("*") if path.suffix in (".safetensors", ".gz"))
    return [f"{folder}/model.json", *weights]


def all_model_files():
    """The files of all property models of the campaign."""
    return [path for target in MODELS for path in model_files(target)]


def labelled_table(target):
    """The user's own table of labels for a target as an input, nothing where the database's entries are learnt from."""
    if target not in TABLES:
        return []
    path = os.path.expanduser(os.path.expandvars(TABLES[target]["path"]))
    if not Path(path).is_file():
        fail(f"screening.training.tables.{target}: no file '{path}'; give a CSV file, export what its name needs")
    return [path]


def learners_of(target):
    """The modules that learn a target."""
    return [f"pipeline.screening.{name}" for name in training_settings(target)["learners"][target]]


def all_learners():
    """The modules of all learners, as a trained model may hold any."""
    return [f"pipeline.screening.{name}" for name in ("elemnet", "boosted", "attention")]


def training_settings(target):
    """What the training of one target reads of the config."""
    training = config["screening"]["training"]
    shares = {key: training[key] for key in ("validation_share", "test_share", "analogues")}
    columns = {key: value for key, value in TABLES.get(target, {}).items() if key != "path"}
    learners = {name: given for name, given in training["learners"][target].items() if given is not None}
    if not learners:
        fail(f"screening.training.learners.{target}: no learner is left; give one its settings, as 'boosted: {{}}'")
    return {**shares, "learners": {target: learners}, "columns": columns}


def check_criteria():
    """End with one line where selection would, before anything is sampled."""
    from pipeline.screening.criteria import Criteria

    try:
        Criteria(**config["screening"]["select"])
    except ValueError as error:
        fail(error)


if workflow.is_main_process:
    check_criteria()
if config["sampling"]["shard_size"] < config["sampling"]["block_size"]:
    fail(f"sampling.shard_size: {config['sampling']['shard_size']} is less than sampling.block_size, draws of one seed")
if N_SHARDS > 9999:
    fail(f"sampling.shard_size: {config['sampling']['shard_size']} makes {N_SHARDS} shards, 9999 can be; raise it")
check_job()
CONFIG_FILES = config_files()
check_writable(RESULTS)
check_writable(LOGS)
