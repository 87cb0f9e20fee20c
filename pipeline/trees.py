"""What LightGBM's text format may say here: LightGBM itself aborts or hangs the process on trees that are none."""

import numpy as np

_HEADER = (
    "tree version num_class num_tree_per_iteration label_index max_feature_idx objective feature_names feature_infos "
    "tree_sizes"
).split()
_SPLITS = (
    "split_feature split_gain threshold decision_type left_child right_child "
    "internal_value internal_weight internal_count"
).split()
_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
_SINGLE = {"num_cat": "0", "is_linear": "0"}
_NAMES = {"num_leaves", "shrinkage", *_SPLITS, *_LEAVES, *_SINGLE}
_INTEGERS = {"split_feature", "decision_type", "left_child", "right_child"}
_NUMERICAL = 0b1110  # bit 0 of a decision type says categorical, the others how missing values go
MAX_FEATURES = 10_000
_END = "end of trees\n"


def check(text: str) -> str:
    """Hold a model's text to numerical trees of one value a row.

    Returns:
        The text without what follows the trees: predictions need no importances, and no parameters of the training,
        over whose damage LightGBM crashes.

    Raises:
        ValueError: The text is cut, or a tree has a field too many or too few, a number that is none, a feature outside
            the model's, or nodes that are no tree.
    """
    head, _, body = text.partition("\nTree=")
    lines = head.rstrip("\n").split("\n")
    about = dict(line.partition("=")[::2] for line in lines)
    if list(about) != _HEADER or len(lines) != len(_HEADER):
        raise ValueError("the header is not one that LightGBM writes")
    if about["num_class"] != "1" or about["num_tree_per_iteration"] != "1":
        raise ValueError("the model gives more than one value a row")
    n_features = int(_numbers(about["max_feature_idx"], np.int32).item()) + 1
    if not 0 < n_features <= MAX_FEATURES:
        raise ValueError(f"the model has {n_features} features")
    body, end, _ = body.partition(_END)
    trees = body.split("Tree=") if body else []
    if not end or [len(f"Tree={tree}") for tree in trees] != _numbers(about["tree_sizes"], int).tolist():
        raise ValueError("the trees are not those that the header lists")
    for number, tree in enumerate(trees):
        try:
            _check_tree(tree, str(number), n_features)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"tree {number}: {error}") from None
    return text[: text.index(_END)] + _END


def _check_tree(tree: str, number: str, n_features: int) -> None:
    first, *lines = tree.rstrip("\n").split("\n")
    fields = dict(line.partition("=")[::2] for line in lines)
    if first != number or len(lines) != len(_NAMES) or fields.keys() != _NAMES:
        raise ValueError("fields are missing, unknown or repeated")
    if any(fields[name] != value for name, value in _SINGLE.items()):
        raise ValueError("only numerical splits and constant leaves can be read")
    n_leaves = int(_numbers(fields["num_leaves"], np.int32).item())
    thresholds = fields["threshold"].split(" ")  # infinite where missing values are split from all others
    fields["threshold"] = " ".join("1e308" if threshold == "inf" else threshold for threshold in thresholds)
    values = {
        name: _numbers(fields[name], np.int32 if name in _INTEGERS else np.float64) for name in (*_SPLITS, *_LEAVES)
    }
    sizes = {name: n_leaves - (name in _SPLITS) for name in values}
    if n_leaves == 1:  # a constant: LightGBM leaves out its weight
        sizes["leaf_weight"] = len(values["leaf_weight"])
    if n_leaves < 1 or any(len(values[name]) != size for name, size in sizes.items()):
        raise ValueError(f"the numbers are not those of {n_leaves} leaves")
    if not np.isfinite(values["leaf_value"]).all():
        raise ValueError("a leaf's value is not finite")
    if ((values["split_feature"] < 0) | (values["split_feature"] >= n_features)).any():
        raise ValueError(f"a split by a feature outside the {n_features} of the model")
    if (values["decision_type"] & ~_NUMERICAL).any():
        raise ValueError("a split that is not numerical")
    children = np.concatenate([values["left_child"], values["right_child"]]).astype(int)
    parents = np.tile(np.arange(n_leaves - 1), 2)
    # Every leaf (from -1 down) and every split but the root has one parent, which was split before it.
    nodes = [*range(-n_leaves, 0), *range(1, n_leaves - 1)] if n_leaves > 1 else []
    if sorted(children.tolist()) != nodes or (children <= parents)[children > 0].any():
        raise ValueError("its nodes are no tree")
    _numbers(fields["shrinkage"], np.float64).item()


def _numbers(text: str, kind: type) -> np.ndarray:
    if not set(text) <= set("0123456789+-.e "):  # Python reads more than LightGBM: line feeds, underscores
        raise ValueError("letters stand where numbers should")
    return np.array(text.split(" ") if text else [], dtype=kind)
