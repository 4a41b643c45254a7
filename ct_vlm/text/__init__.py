"""Labels, regions, report sections and prompts."""
