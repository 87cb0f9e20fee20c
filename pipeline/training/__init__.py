"""Stage `training`: the chosen generator learns the entries that are not held out."""
