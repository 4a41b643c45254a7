"""LightningModules that train the models."""
