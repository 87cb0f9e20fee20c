"""Stage `evaluation`: how good a set of generated formulas is, ours or anyone's, beside cheap ways to make one."""
