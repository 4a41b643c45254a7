"""Report and label metrics as torchmetrics classes with functional twins."""
