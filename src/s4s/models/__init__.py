"""Networks as denoisers, whatever they predict and on whatever path they were trained."""
