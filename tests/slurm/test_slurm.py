"""`snakemake --profile slurm` on a real Slurm; what is not marked slow is the short form.

Run by `make test-slurm`; needs root on Debian or Ubuntu, for Slurm's packages.
"""

import os
import re
import signal
import subprocess
import time

import pytest

from tests.campaign import Campaign

with_accounting = pytest.mark.parametrize("cluster", ["sacct"], indirect=True)


def done(campaign, *arguments, **named) -> str:
    said = campaign.run(*arguments, **named)
    assert said.returncode == 0, said.stdout[-5000:]
    return said.stdout


def since(cluster, last: int) -> list:
    return [job for job in cluster.jobs() if job.id > last]


def test_the_whole_chain_and_then_another_cutoff(cluster, on_slurm, finished):
    """The same bytes as without Slurm; training and relaxation alone have a GPU; a cutoff costs one job."""
    done(on_slurm)
    assert on_slurm.files() == finished.files()
    jobs = cluster.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"} and len(jobs) == 25
    assert {job.rule: job.gpu for job in jobs if job.gpu} == dict.fromkeys(
        ("train", "autoencode", "relax", "references"), "gres:gpu:1"
    )
    train = next(job for job in jobs if job.rule == "train")
    assert (train.memory_mb, train.minutes, train.partition) == (8000, 720, "cpu")
    overlay = on_slurm.overlay("cutoff.yaml", screening={"select": {"n_selected": 20}})
    done(on_slurm, "screening", overlay=overlay)
    assert [job.rule for job in since(cluster, jobs[-1].id)] == ["select_candidates"]


def test_a_job_killed_for_its_memory_comes_back_with_more(cluster, on_slurm):
    """The rule's own request is cut to a twentieth; the profile's retries submit it anew."""
    rule = on_slurm.folder / "workflow" / "rules" / "training.smk"
    rule.write_text(rule.read_text().replace("needs(8000, ", "needs(400, "))
    last = cluster.last()
    done(on_slurm, f"{on_slurm.results.relative_to(on_slurm.folder)}/training/generator.safetensors")
    tries = [job for job in since(cluster, last) if job.rule == "train"]
    assert tries[-1].state == "COMPLETED" and len(tries) > 1
    for job in tries[:-1]:  # the state's name depends on whether Slurm polls or has cgroups
        assert job.state in ("OUT_OF_MEMORY", "FAILED")
        slurm_log = on_slurm.folder / ".snakemake" / "slurm_logs" / "rule_train" / f"{job.id}.log"
        assert "exceeded memory limit" in slurm_log.read_text().lower()
    assert [(job.memory_mb, job.minutes) for job in tries] == [(400 * n, 720 * n) for n in range(1, len(tries) + 1)]


@pytest.mark.slow
@with_accounting
@pytest.mark.parametrize(
    "gpu, asked",
    [
        ("--gres=gpu:1", "gres:gpu:1"),
        ("--gpus=fake:1", "gres:gpu:fake:1"),
        ("--gres=gpu:fake:1", "gres:gpu:fake:1"),
        ("--gpus-per-node=fake:1", "gres:gpu:fake:1"),
    ],
)
def test_a_site_s_names(cluster, on_slurm, gpu, asked):
    names = {"account": "lab", "partition": "cpu", "gpu_partition": "gpu", "gpu": gpu}
    last = cluster.last()
    done(on_slurm, "training", overlay=on_slurm.overlay("site.yaml", cluster=names))
    found = {job.rule: (job.partition, job.gpu) for job in since(cluster, last)}
    assert found["train"] == found["autoencode"] == ("gpu", asked)
    assert found["encode"] == found["read_rows"] == ("cpu", "")


@pytest.mark.slow
@with_accounting
def test_job_arrays(cluster, on_slurm):
    """Four draws are one array."""
    overlay = on_slurm.overlay("shards.yaml", sampling={"shard_size": 1000})
    last = cluster.last()
    done(on_slurm, "sampling", "--slurm-array-jobs", "all", overlay=overlay)
    draws = [job for job in since(cluster, last) if job.rule == "draw"]
    assert len(draws) == 4 and len({job.array for job in draws}) == 1 and draws[0].array


@pytest.mark.slow
@with_accounting
def test_training_over_its_time_limit_goes_on_from_its_checkpoint(cluster, on_slurm, tmp_path):
    """One minute, then two, and so on: Slurm sends SIGTERM, the job saves, the next attempt goes on there."""
    settings = {"likelihood_epochs": 400, "adversarial_epochs": 1, "batch_size": 128}
    slow = {"training": {"settings": settings, "runtime": 1, "autoencoder": {"epochs": 1}}}
    overlay = on_slurm.overlay("slow.yaml", **slow)
    last = cluster.last()
    said = done(on_slurm, "training", "--set-resources", "train:mem_mb=2000", "--retries", "4", overlay=overlay)
    tries = [job for job in since(cluster, last) if job.rule == "train"]
    assert [job.state for job in tries[:-1]] == ["TIMEOUT"] * (len(tries) - 1) and len(tries) > 1
    assert [job.minutes for job in tries] == list(range(1, len(tries) + 1))
    assert "TIMEOUT" in said
    slurm_log = on_slurm.folder / ".snakemake" / "slurm_logs" / "rule_train" / f"{tries[0].id}.log"
    assert "SIGTERM at step" in slurm_log.read_text()  # the rule's own log is the last attempt's
    (tmp_path / "through").mkdir()
    through = Campaign.new(on_slurm.folder, tmp_path / "through")
    done(through, "training", overlay=through.overlay("slow.yaml", **slow))
    for name in ("generator.safetensors", "history.parquet", "epoch_samples.parquet"):
        assert (on_slurm.results / "training" / name).read_bytes() == (through.results / "training" / name).read_bytes()


@pytest.mark.slow
@with_accounting
def test_two_campaigns_in_one_checkout(cluster, on_slurm, finished):
    """They run beside each other; a second run of one of them is refused, and says why."""
    on_slurm.overlay("other.yaml", campaign="other")
    both = [on_slurm.start(overlay=name) for name in ("small.yaml", "other.yaml")]
    time.sleep(15)
    again = on_slurm.run(overlay="small.yaml")
    assert again.returncode != 0
    assert re.search(rf"campaign 'small' is taken by process {both[0].pid} on .*; wait for that run", again.stdout)
    for process in both:
        said, _ = process.communicate()
        assert process.returncode == 0, said[-3000:]
    ours = on_slurm.files()
    assert ours == finished.files()
    other = {
        path.relative_to(on_slurm.results.parent / "other")
        for path in (on_slurm.results.parent / "other").rglob("*.parquet")
    }
    assert {str(path) for path in other} == {name for name in ours if name.endswith(".parquet")}


@pytest.mark.slow
def test_a_config_edited_while_jobs_wait_is_not_half_used(cluster, on_slurm):
    process = on_slurm.start("encoding")
    while not (on_slurm.results / "database" / "small" / "rows.parquet").exists():
        time.sleep(0.2)
        assert process.poll() is None
    on_slurm.overlay("small.yaml", encoding={"holdout_share": 0.5})
    said, _ = process.communicate()
    assert process.returncode != 0 and "the config was edited since this run began" in said
    assert not (on_slurm.results / "encoding" / "split.parquet").exists()


@pytest.mark.slow
def test_ctrl_c_cancels_the_jobs(cluster, on_slurm):
    last = cluster.last()
    process = on_slurm.start("training")
    while not any(job.rule == "train" and job.state == "RUNNING" for job in since(cluster, last)):
        time.sleep(0.2)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate()
    time.sleep(12)
    assert {job.state for job in since(cluster, last)} <= {"COMPLETED", "CANCELLED"}
    done(on_slurm, "training")


@pytest.mark.slow
def test_a_run_killed_while_its_jobs_wait(cluster, on_slurm):
    """The next run submits its own; those of the dead one end themselves when their turn comes."""
    last, whole = (
        cluster.last(),
        ("sbatch", "--parsable", f"--cpus-per-task={os.cpu_count()}", "--mem=100", "--wrap", "sleep 600"),
    )
    blocker = subprocess.run(whole, check=True, text=True, stdout=subprocess.PIPE, cwd=on_slurm.folder).stdout.strip()

    def submitted(n):
        while len([job for job in since(cluster, last) if job.rule == "read_rows"]) < n:
            time.sleep(0.5)

    dead = on_slurm.start("database")
    submitted(1)
    dead.kill()
    run = on_slurm.start("database")
    submitted(2)
    subprocess.run(["scancel", blocker], check=True)
    said, _ = run.communicate()
    assert run.returncode == 0, said[-3000:]
    states = [job.state for job in since(cluster, last) if job.rule == "read_rows"]
    assert states == ["FAILED", "COMPLETED"]


@pytest.mark.slow
def test_a_run_killed_while_its_job_runs(cluster, on_slurm):
    """The next run is refused until the job has ended."""
    last = cluster.last()
    slow = {"training": {"settings": {"likelihood_epochs": 300, "adversarial_epochs": 1}, "autoencoder": {"epochs": 1}}}
    dead = on_slurm.start("training", overlay=on_slurm.overlay("slow.yaml", **slow))
    log = on_slurm.folder / "logs" / "small" / "training.log"
    while not (log.exists() and "epochs/s" in log.read_text()):
        time.sleep(0.5)
        assert dead.poll() is None
    dead.kill()
    refused = on_slurm.run("training")
    assert refused.returncode and "a job outlived its run: process " in refused.stdout
    subprocess.run(["scancel", *(str(job.id) for job in since(cluster, last))], check=True)
    time.sleep(15)  # Slurm gives them time to save
    done(on_slurm, "training")


@pytest.mark.slow
@with_accounting
def test_the_default_campaign(cluster, root, tmp_path, on_slurm):
    """The embedded database at its full size."""
    (on_slurm.folder / "default.yaml").write_text("campaign: default\nstructures:\n  threads: 1\n")
    last = cluster.last()
    done(on_slurm, overlay="default.yaml")
    jobs = since(cluster, last)
    assert len(jobs) <= 60 and {job.state for job in jobs} == {"COMPLETED"}
    exported = len(list((on_slurm.folder / "results" / "default" / "export" / "POSCAR").iterdir()))
    assert 40 <= exported <= 50  # of 50 candidates, some fail in relaxation
