"""EDM's networks and pickles as denoisers."""
