"""LightningDataModules over the datasets."""
