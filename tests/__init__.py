"""Tests; a package, since others of that name stand in site-packages."""
