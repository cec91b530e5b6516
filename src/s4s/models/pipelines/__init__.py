"""Folders of diffusers and Stable Diffusion as denoisers."""
