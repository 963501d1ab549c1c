"""What a diffusion model needs and a compiler does not: schedules, losses, training, sampling."""
