"""Stage `screening`: formation energy, band gap and novelty of each formula, then cutoffs and a rank."""
