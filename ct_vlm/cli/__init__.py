"""The `ct-vlm` command."""
