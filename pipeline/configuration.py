"""Hold the config to its schema, and say in one line what is wrong, where, and what to write instead."""

import difflib
import json
import math
from pathlib import Path

import jsonschema

# YAML says 1.0e+6 and .nan as floats: JSON Schema would take the one for an integer and the other for a number.
_VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda _, value: (
                isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            ),
        }
    ),
)


def check(config: dict, schema_path: str | Path) -> None:
    """Check a merged config.

    Raises:
        ValueError: One line that names the first offending value, its place and the mend.
    """
    validator = _VALIDATOR(json.loads(Path(schema_path).read_text()))
    errors = sorted(
        validator.iter_errors(config), key=lambda error: (list(map(str, error.absolute_path)), error.message)
    )
    if errors:
        raise ValueError(_line(jsonschema.exceptions.best_match(errors)))


def _line(error: jsonschema.ValidationError) -> str:
    place = ".".join(map(str, error.absolute_path)) or "the top level"
    allowed = error.validator_value
    match error.validator:
        case "additionalProperties":
            known = list(error.schema.get("properties", {}))
            unknown = next(key for key in error.instance if key not in known)
            close = difflib.get_close_matches(str(unknown), known, n=1)
            mend = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known) or 'none'}"
            return f"config: unknown key {unknown!r} at {place}; {mend}"
        case "required":
            missing = next(key for key in allowed if key not in error.instance)
            return f"config: key '{missing}' is missing at {place}; see config/README.md"
        case "enum" if "propertyNames" in error.absolute_schema_path:  # a key that another kind has
            return f"config: key '{error.instance}' has no meaning at {place}; known are {', '.join(allowed)}"
        case "anyOf":
            if names := " or ".join(f"'{name}'" for choice in allowed for name in choice.get("required", ())):
                return f"config: key {names} is missing at {place}; see config/README.md"
            return f"config: {place} is {error.instance!r}; write {' or '.join(map(_choice, allowed))}"
        case "enum":
            return f"config: {place} is {error.instance!r}; write one of {', '.join(map(str, allowed))}"
        case "type":
            kinds = allowed if isinstance(allowed, str) else " or ".join(allowed)
            return f"config: {place} is {error.instance!r}; write a value of type {kinds}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            bound = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
            return f"config: {place} is {error.instance!r}; write {bound.get(error.validator, 'below')} {allowed}"
        case "pattern" if "description" in error.schema:
            return f"config: {place} is {error.instance!r}; write one like {error.schema['description']}"
        case "pattern":
            return f"config: {place} is {error.instance!r}; it must match {allowed}"
    return f"config: {place} is {error.instance!r}: {error.message}"


def _choice(schema: dict) -> str:
    """What a schema of a constant or of a type allows, in words."""
    if "const" in schema:
        return repr(schema["const"])
    article = "an" if schema["type"][0] in "aeiou" else "a"
    return f"{article} {schema['type']}" + (f" of at least {schema['minimum']}" if "minimum" in schema else "")
