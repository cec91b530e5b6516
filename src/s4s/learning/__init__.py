"""Fitting a learned solver to teacher pairs. Start at fit.py; this file imports nothing, so that settings.py stays light."""
