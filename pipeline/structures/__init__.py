"""From formulas to crystals: templates, assignment of elements to their sites, volume, relaxation."""
