"""What MedRegion-CT's parts bring on phantoms."""
