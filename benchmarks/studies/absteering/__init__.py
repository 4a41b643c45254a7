"""What AbSteering's two stages bring on phantoms."""
