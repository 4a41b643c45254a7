"""Synthetic chest CTs with masks, findings and reports."""
