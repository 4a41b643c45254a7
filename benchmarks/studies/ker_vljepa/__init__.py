"""What Ker-VLJEPA's curriculum does on phantoms."""
