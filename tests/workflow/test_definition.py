"""The workflow as it stands: resources, targets, environment."""

import re

import pytest
import yaml


def test_training_asks_for_one_gpu_on_slurm(campaign):
    said = campaign.run("--profile", f"{campaign.folder}/slurm", "--dry-run", "--forcerun", "train", "autoencode")
    assert said.returncode == 0, said.stdout[-2000:]
    for rule in ("train", "autoencode"):
        block = re.search(rf"^rule {rule}:\n(.*?)^\[", said.stdout, re.DOTALL | re.MULTILINE)[1]
        assert "gpu=1" in block and "mem_mb=8000" in block and "runtime=720" in block
    block = re.search(r"^rule filter:\n(.*?)^\[", said.stdout, re.DOTALL | re.MULTILINE)[1]
    assert "gpu" not in block and "mem_mb=3000" in block


def test_memory_and_time_grow_with_the_attempt(root):
    for path in (root / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        assert "mem_mb=" not in text and "runtime=" not in text, path.name
        if path.name != "common.smk":
            assert len(re.findall(r"^rule ", text, re.MULTILINE)) == len(re.findall(r"\*\*needs\(\w+, ", text)), (
                path.name
            )


@pytest.mark.parametrize("n_samples, most", [(2_000_000, 60), (10_000_000, 200)])
def test_few_jobs(campaign, n_samples, most):
    overlay = campaign.overlay("many.yaml", campaign="many", sampling={"n_samples": n_samples})
    said = campaign.run("--dry-run", "--quiet", "rules", overlay=overlay)
    jobs = int(re.search(r"^total +(\d+)$", said.stdout, re.MULTILINE)[1]) - 1  # `all` is no job
    assert jobs <= most, said.stdout


@pytest.mark.parametrize(
    "gpu, asked, left_out",
    [
        ("--gpus=2", "gpu=2", "gres="),
        ("--gpus=a100:1", "gpu_model=a100", "gres="),
        ("--gres=gpu:a100:1", "gres=gpu:a100:1", "gpu="),
        ("--gpus-per-node=a100-80gb:1", "slurm_extra=--gpus-per-node=a100-80gb:1", "gpu="),
        (None, "slurm_partition=gpus", "gpu="),
    ],
)
def test_a_site_s_names(campaign, gpu, asked, left_out):
    names = {"account": "lab", "partition": "cpus", "gpu_partition": "gpus", "gpu": gpu}
    overlay = campaign.overlay("site.yaml", campaign="site", cluster=names)
    said = campaign.run("--dry-run", overlay=overlay).stdout
    blocks = dict(re.findall(r"^rule (\w+):\n(.*?)(?=^\[|^rule )", said, re.DOTALL | re.MULTILINE))
    assert asked in blocks["train"] and left_out not in blocks["train"]
    assert "slurm_account=lab" in blocks["encode"] and "slurm_partition=cpus" in blocks["encode"]
    assert "slurm_partition=gpus" in blocks["autoencode"] and "gpu" not in blocks["encode"]


def test_conda_environment_has_the_lock_s_versions(root):
    lock = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (root / "requirements.lock").read_text(), re.MULTILINE))
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    environment = yaml.safe_load((root / "workflow" / "envs" / "kimberlite.yaml").read_text())
    for requirement in environment["dependencies"][-1]["pip"]:
        name, version = requirement.split("==")
        assert lock[name.partition("[")[0]] == version
