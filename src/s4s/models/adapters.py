"""Which module makes a denoiser of each kind of model file. A new checkpoint format is one module and one line. No torch."""

# kind -> module with load_denoiser(model, device) and outline(model)
ADAPTERS = {
    "embedded": "s4s.models.embedded.weights",
    "edm": "s4s.models.edm.checkpoint",
    "latent_diffusion": "s4s.models.latent_diffusion",
    "diffusers": "s4s.models.pipelines.diffusers_folder",
    "pipeline": "s4s.models.pipelines.whole_pipeline",
    "galaxygrad": "s4s.models.galaxygrad",
    "python": "s4s.models.python_function",
}
