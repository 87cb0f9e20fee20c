"""Report stage: what a campaign did and how far to trust it, as one page that opens offline."""
