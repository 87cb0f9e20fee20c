"""Filtering stage: SMACT's charge-neutrality and electronegativity rules on whole batches of integer compositions."""
