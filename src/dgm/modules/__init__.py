"""One LightningModule per training step; networks, likelihoods and losses are injected."""
