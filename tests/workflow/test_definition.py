"""The workflow as it stands: resources, targets, environment."""

import re

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
        for line in re.findall(r"(?:mem_mb|runtime)=(.*)", path.read_text()):
            assert line.startswith("growing("), f"{path.name}: {line}"


def test_conda_environment_has_the_lock_s_versions(root):
    lock = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (root / "requirements.lock").read_text(), re.MULTILINE))
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    environment = yaml.safe_load((root / "workflow" / "envs" / "kimberlite.yaml").read_text())
    for requirement in environment["dependencies"][-1]["pip"]:
        name, version = requirement.split("==")
        assert lock[name] == version
