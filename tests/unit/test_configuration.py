"""The config's schema: what ships is valid, and one line says what is wrong, where, and what to write."""

import copy
import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.configuration import check
from pipeline.database.cleaning import Cleaning
from pipeline.generators import load
from pipeline.screening.models import LEARNERS, TARGETS, settings_class

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.json"
DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
OVERLAYS = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.name != "config.yaml")


def merged(base: dict, overlay: dict) -> dict:
    """As Snakemake merges: section by section."""
    result = copy.deepcopy(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def nested(place: str, value) -> dict:
    for key in reversed(place.split(".")):
        value = {key: value}
    return value


def line(config: dict) -> str:
    with pytest.raises(ValueError) as error:
        check(config, SCHEMA)
    message = str(error.value)
    assert message.startswith("config: ") and message.isprintable()
    return message


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(json.loads(SCHEMA.read_text()))


def test_default_is_valid():
    check(DEFAULT, SCHEMA)
    Cleaning(**DEFAULT["database"]["cleaning"])


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
def test_overlays_are_valid(path):
    overlay = yaml.safe_load(path.read_text())
    check(merged(DEFAULT, overlay), SCHEMA)
    assert overlay["campaign"] == path.stem


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("screening.select.min_bandgap_ev", 1, "unknown key 'min_bandgap_ev' at screening.select; did you mean 'min_b"),
        ("sampling.n_sample", 1, "unknown key 'n_sample' at sampling; did you mean 'n_samples'?"),
        ("sampilng", {}, "unknown key 'sampilng' at the top level; did you mean 'sampling'?"),
        ("encoding.zzz", 1, "unknown key 'zzz' at encoding; known are holdout_share, holdout_systems_share, settings"),
        ("encoding.bad\nkey", 1, "unknown key"),
        ("encoding.settings.pairs", [], "unknown key 'pairs' at encoding.settings; known are none"),
        ("sampling.n_samples", "many", "sampling.n_samples is 'many'; write a value of type integer"),
        ("sampling.n_samples", "1e6", "sampling.n_samples is '1e6'; write a value of type integer"),
        ("sampling.n_samples", 1e6, "sampling.n_samples is 1000000.0; write a value of type integer"),
        ("sampling.n_samples", True, "sampling.n_samples is True; write a value of type integer"),
        ("sampling.n_samples", None, "sampling.n_samples is None; write a value of type integer"),
        ("sampling.n_samples", 0, "sampling.n_samples is 0; write at least 1"),
        ("sampling", None, "sampling is None; write a value of type object"),
        ("sampling", [], "sampling is []; write a value of type object"),
        ("encoding.holdout_share", 1, "encoding.holdout_share is 1; write below 1"),
        ("encoding.holdout_share", -0.1, "encoding.holdout_share is -0.1; write at least 0"),
        ("encoding.holdout_share", float("nan"), "encoding.holdout_share is nan; write a value of type number"),
        ("screening.select.max_atoms", "ten", "max_atoms is 'ten'; write a value of type integer or null"),
        ("database.max_rejected_share", 5, "database.max_rejected_share is 5; write at most 1"),
        ("database.cleaning.formation_energy_sigma", 0, "write above 0"),
        (
            "database.cleaning.vocabulary",
            "papers",
            "database.cleaning.vocabulary is 'papers'; write one of data, p",
        ),
        ("database.cleaning.keep_lowest_energy", "yes", "keep_lowest_energy is 'yes'; write a value of type boolean"),
        ("database.cleaning.drop_elements", "He", "drop_elements is 'He'; write a value of type array"),
        ("database.cleaning.drop_elements", [1], "drop_elements.0 is 1; write a value of type string"),
        *(
            (
                "training.processes",
                value,
                f"training.processes is {value!r}; write 'auto' or an integer of at least 1",
            )
            for value in ("many", 1.5, None, True, [])
        ),
        ("generator", "gan", "generator is 'gan'; write one of seqgan, matgan, crystalgan"),
        ("campaign", "../up", "campaign is '../up'; it must match"),
        ("campaign", "", "campaign is ''; it must match"),
        ("seed", -1, "seed is -1; write at least 0"),
        ("database.source", {"kind": "table"}, "unknown key 'source' at database; did you mean 'sources'?"),
        ("database.sources", {"kind": "table"}, "is {'kind': 'table'}; write a value of type array"),
        ("database.sources", [], "database.sources is []"),
        ("database.sources", [{"name": "x", "kind": "table"}], "missing at database.sources.0; see config/README.md"),
        ("database.sources", [{"name": "x", "kind": "structures"}], "key 'path' is missing at database.sources.0"),
        ("database.sources", [{"name": "x", "path": "x"}], "key 'kind' is missing at database.sources.0"),
        ("database.sources", [{"name": "x", "kind": "optimade"}], "key 'url' is missing at database.sources.0"),
        (
            "database.sources",
            [{"name": "x", "kind": "structures", "path": "x", "filter": "nelements=2"}],
            "key 'filter' has no meaning at database.sources.0; known are name, kind, path",
        ),
        ("database.sources", [{"name": "a/b", "kind": "matminer_transport"}], "name is 'a/b'; it must match"),
        (
            "database.sources",
            [{"name": "x", "kind": "table", "path": "x", "columns": {"id": "i"}}],
            "key 'formula' or 'structure' is missing at database.sources.0.columns",
        ),
        (
            "database.sources",
            [{"name": "x", "kind": "table", "path": "x", "columns": {"formula": "f", "band_gap_ev": "gap"}}],
            "database.sources.0.columns.band_gap_ev is 'gap'; write a value of type object",
        ),
        (
            "database.sources",
            [{"name": "x", "kind": "table", "path": "x", "columns": {"formula": "f", "band_gap_ev": {"column": "g"}}}],
            "key 'unit' is missing at database.sources.0.columns.band_gap_ev",
        ),
    ],
)
def test_one_line_names_value_place_and_mend(place, value, expected):
    config = merged(DEFAULT, nested(place, value))
    if place == "database.sources":
        config["database"]["sources"] = value
    assert expected in line(config)


@pytest.mark.parametrize("name", json.loads(SCHEMA.read_text())["properties"]["generator"]["enum"])
def test_the_schema_knows_the_settings_of_each_generator(name):
    module = load(name)
    (rules,) = (
        case["then"]["properties"]
        for case in json.loads(SCHEMA.read_text())["allOf"]
        if case["if"]["properties"]["generator"]["const"] == name
    )
    assert set(rules["training"]["properties"]["preset"]["enum"]) == set(module.PRESETS)
    for section, settings in (("training", module.Settings), ("encoding", module.Encoding)):
        known = rules[section]["properties"]["settings"]
        fields = {field.name for field in dataclasses.fields(settings)}
        assert known["additionalProperties"] is False and set(known.get("properties", {})) == fields


def places(section: dict, above: tuple = ()):
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


@pytest.mark.parametrize("place", places(DEFAULT), ids=".".join)
def test_every_key_of_the_default_is_required_and_closed(place):
    """A key left out is named, and so is one misspelt."""
    config = copy.deepcopy(DEFAULT)
    section = config
    for key in place[:-1]:
        section = section[key]
    value = section.pop(place[-1])
    message = line(config)
    assert f"key '{place[-1]}' is missing at {'.'.join(place[:-1]) or 'the top level'}" in message
    section[place[-1] + "x"] = value
    section[place[-1]] = value
    message = line(config)
    assert f"unknown key '{place[-1]}x'" in message and "did you mean" in message


@pytest.mark.parametrize("name", LEARNERS)
def test_the_schema_knows_the_settings_of_each_learner(name):
    learners = json.loads(SCHEMA.read_text())["properties"]["screening"]["properties"]["training"]["properties"][
        "learners"
    ]
    fields = {field.name for field in dataclasses.fields(settings_class(name))}
    for target in TARGETS:
        assert set(learners["properties"][target]["properties"][name]["properties"]) == fields
