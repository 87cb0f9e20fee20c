"""Digests see what code does and nothing else; seeds are stable."""

import hashlib
import os
import subprocess
from textwrap import dedent

import pytest

from pipeline import provenance

MODULES = {
    "pipeline/__init__.py": '"""Top."""\n',
    "pipeline/stage.py": '''
        """Stage."""
        import json
        from pipeline.helper import add
        from pipeline import package

        def run(x):
            """Run."""
            return add(x) + package.ONE
    ''',
    "pipeline/helper.py": """
        from .deep.inner import factor

        def add(x):
            # a comment
            return x + 1
    """,
    "pipeline/deep/__init__.py": "",
    "pipeline/deep/inner.py": "from ..far import FAR\n\ndef factor():\n    return 2\n",
    "pipeline/far.py": "FAR = 1\n",
    "pipeline/package/__init__.py": "from pipeline.package import lazy\nONE = 1\n",
    "pipeline/package/lazy.py": """
        class Lazy:
            def later(self):
                import pipeline.late
    """,
    "pipeline/late.py": "LATE = 1\n",
    "pipeline/other.py": "OTHER = 1\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a small package and return a function that edits one module and gives the stage's new digest."""
    for name, text in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def digest(name: str | None = None, old: str = "", new: str = "", modules=("pipeline.stage",)) -> str:
        if name:
            text = (tmp_path / name).read_text() if (tmp_path / name).exists() else ""
            assert old in text
            (tmp_path / name).write_text(text.replace(old, new) if old else new)
        provenance._parsed.cache_clear()
        return provenance.source_digest(*modules)

    yield digest
    provenance._parsed.cache_clear()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pipeline/stage.py", "add(x) +", "add(x) -"),
        ("pipeline/helper.py", "x + 1", "x + 2"),
        ("pipeline/deep/inner.py", "return 2", "return 3"),
        ("pipeline/far.py", "1", "2"),
        ("pipeline/package/__init__.py", "ONE = 1", "ONE = 2"),
        ("pipeline/package/lazy.py", "later(self)", "later(self, x=1)"),
        ("pipeline/late.py", "1", "2"),
        ("pipeline/helper.py", "return x", "'no docstring'\n    return 'text' + x"),
    ],
)
def test_digest_sees_code_of_every_module_imported(package, name, old, new):
    assert package() != package(name, old, new)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("pipeline/helper.py", "# a comment", "# another\n\n    # one"),
        ("pipeline/stage.py", '"""Run."""', '"""Run,\n    and say how."""'),
        ("pipeline/stage.py", '"""Stage."""', ""),
        ("pipeline/stage.py", '    """Run."""\n', ""),
        ("pipeline/helper.py", "x + 1", "(\n        x\n        + 1\n    )"),
        ("pipeline/far.py", "FAR = 1", "FAR  =  0x1  # the same"),
        ("pipeline/package/lazy.py", "class Lazy:", 'class Lazy:\n    """A class."""\n'),
        ("pipeline/other.py", "1", "2"),
        ("pipeline/new.py", "", "NEW = 1\n"),
        ("pipeline/package/new.py", "", "NEW = 1\n"),
        ("pipeline/__init__.py", "Top", "Bottom"),
    ],
)
def test_digest_does_not_see_comments_docstrings_layout_and_modules_not_imported(package, name, old, new):
    assert package() == package(name, old, new)


def test_a_string_that_is_returned_is_no_docstring(package):
    before = package("pipeline/far.py", "FAR = 1", "def text():\n    return 'one'\nFAR = 1")
    assert before != package("pipeline/far.py", "'one'", "'two'")


def test_digest_of_several_modules(package):
    both = package(modules=("pipeline.stage", "pipeline.other"))
    assert both == package(modules=("pipeline.other", "pipeline.stage"))
    assert both != package()
    assert both != package("pipeline/other.py", "1", "2", modules=("pipeline.other", "pipeline.stage"))
    assert len(both) == 16 and int(both, 16)


def test_unknown_module(package):
    with pytest.raises(ValueError, match=r"no module 'pipeline\.nowhere'"):
        package(modules=("pipeline.nowhere",))


def test_a_circle_of_imports_ends(package):
    assert package("pipeline/far.py", "FAR = 1", "import pipeline.stage\nFAR = 1")


def test_real_stages_depend_on_what_they_should():
    """A change to the report or to seqgan retrains no matgan; a change to composition reaches all."""
    closure = {}
    for stage in ("pipeline.database.stage", "pipeline.encoding", "pipeline.training.stage", "pipeline.sampling"):
        seen, waiting = set(), [stage]
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting.extend(provenance._parsed(module)[1])
        closure[stage] = seen
        assert "pipeline.composition" in seen and "pipeline.tables" in seen
        assert not [name for name in seen if name.startswith(("pipeline.screening", "pipeline.report"))]
        assert not [name for name in seen if name.endswith(("seqgan", "matgan"))]
    assert "pipeline.sampling" not in closure["pipeline.training.stage"]


def test_derived_seed():
    assert provenance.derived_seed(1, "sampling", 0) == 3194519188008494165
    seeds = {provenance.derived_seed(seed, key, block) for seed in range(5) for key in "ab" for block in range(500)}
    assert len(seeds) == 5000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert provenance.derived_seed(1, "1") != provenance.derived_seed(1, 1)
    assert provenance.derived_seed(1, "a", "b") != provenance.derived_seed(1, "a, b")


def test_list_digest_is_that_of_sha256sum(tmp_path):
    paths = [tmp_path / "b b", tmp_path / "a"]
    for path in paths:
        path.write_text(path.name)
    lines = subprocess.run(["sha256sum", *paths], capture_output=True, check=True).stdout
    assert provenance.list_digest(paths) == hashlib.sha256(lines).hexdigest()
    os.utime(paths[0], (0, 0))
    assert provenance.list_digest(paths) == hashlib.sha256(lines).hexdigest()
    assert provenance.list_digest([*paths, tmp_path / "gone"]) != hashlib.sha256(lines).hexdigest()


def test_record(tmp_path):
    (tmp_path / "in").write_bytes(b"bytes")
    found = provenance.record("here", "c0de", {"x": 1}, 7, {"file": tmp_path / "in"})
    assert found["inputs"] == {"file": hashlib.sha256(b"bytes").hexdigest()}
    assert (found["stage"], found["code"], found["settings"], found["seed"]) == ("here", "c0de", {"x": 1}, 7)
    assert set(found["versions"]) >= {"torch", "numpy", "pyarrow"}
