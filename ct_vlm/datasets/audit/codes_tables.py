"""Findings about tables: severity (subset/full), meaning, cure."""

from __future__ import annotations

TABLE_CODES: dict[str, tuple[str, str, str]] = {
    "table.missing": (
        "warning/error",
        "A published table was not found.",
        "Download it, or switch off what needs it (`text=None`, `labels=False`, `exclude_no_chest=False`).",
    ),
    "table.unreadable": ("error", "A table cannot be read as CSV.", "Download it again."),
    "table.encoding": (
        "error",
        "A row is not UTF-8, so the data sets refuse the table.",
        "Save the table as UTF-8; it may have passed through a spreadsheet.",
    ),
    "table.no_volume_column": (
        "error",
        "No column names the volume.",
        "Name it `VolumeName` (CT-RATE) or `Volumename` (RadGenome-ChestCT).",
    ),
    "table.missing_column": ("error", "A published column is absent.", "Download the table again."),
    "table.ragged_row": (
        "error",
        "A row has more or fewer fields than the header; a list such as `[0.7, 0.7]` without quotes does that.",
        "Quote the cell that holds commas, or download the table again.",
    ),
    "table.blank_name": ("warning", "A row names no volume; it is left out.", "Delete the row."),
    "table.bad_name": (
        "warning",
        "The volume's name is not of the form `train_1_a_2.nii.gz`; the row is left out.",
        "Give it its published name.",
    ),
    "table.escaping_name": (
        "error",
        "The volume's name is a path that may lead out of the data set.",
        "Distrust the table. The data sets never follow such a name.",
    ),
    "table.wrong_split": (
        "error",
        "A table of one split lists a volume of the other.",
        "Move the row; the data sets leave it out.",
    ),
    "table.duplicate_row": ("warning", "A row appears more than once.", "Delete the copies; the first is used."),
    "table.conflicting_rows": (
        "error",
        "A volume, or a region of it, is listed twice with different contents.",
        "Keep the right row; the data sets use the first.",
    ),
    "table.row_without_file": (
        "info/error",
        "A volume of the tables is not on disk.",
        "Download it; the data sets leave the row out.",
    ),
    "table.file_without_row": (
        "warning",
        "A volume on disk has no row in this table.",
        "It is left out if the table is needed; download the table again.",
    ),
    "table.two_places": (
        "warning",
        "A table lies in two places with different contents; the first place is read.",
        "Keep one of the files.",
    ),
    "table.mojibake": (
        "warning",
        "The text holds signs of a wrong encoding (U+FFFD, or UTF-8 read as Latin-1).",
        "Take the text from the original table.",
    ),
    "text.no_report": (
        "warning",
        "Findings and impressions are blank or read 'Not given.'.",
        'Left out by default; `missing_text="empty"` keeps the volume.',
    ),
    "text.no_findings": (
        "warning",
        "The findings are blank or read 'Not given.'.",
        'Left out with `text="findings"`; `text="both"` uses the impressions.',
    ),
    "text.no_impressions": (
        "info",
        "The impressions are blank or read 'Not given.'.",
        'Left out with `text="impressions"` only.',
    ),
    "text.recons_differ": (
        "warning",
        "Reconstructions of one scan have different reports; the published ones share one.",
        'Correct the table, or pass `recon_policy="first"`.',
    ),
    "label.not_binary": (
        "error",
        "A label is neither 0 nor 1, so the data sets refuse the table.",
        "Correct the cell or delete the row.",
    ),
    "label.recons_differ": (
        "warning",
        "Reconstructions of one scan have different labels.",
        'Correct the table, or pass `recon_policy="first"`.',
    ),
    "metadata.blank_spacing": (
        "warning",
        "XYSpacing or ZSpacing is blank or NaN.",
        "The v1 volume is left out; v2 takes its spacing from the header.",
    ),
    "metadata.implausible_spacing": (
        "warning",
        "XYSpacing or ZSpacing is a voxel size that no chest CT has.",
        "Compare with the v2 header; pass the name in `exclude=` if it is wrong.",
    ),
    "metadata.bad_spacing": (
        "error",
        "XYSpacing or ZSpacing is no number, not above zero, or above 100 mm.",
        'Correct the row; with v2 and `hu_source="fixed"` it is not used.',
    ),
    "metadata.spacing_not_list": (
        "info",
        "XYSpacing is one number and not a list of two.",
        "Nothing to do: it is taken for both axes.",
    ),
    "metadata.blank_rescale": (
        "warning",
        "RescaleSlope or RescaleIntercept is blank or NaN.",
        'The v1 volume is left out; v2 needs neither (`hu_source="fixed"`).',
    ),
    "metadata.bad_rescale": (
        "error",
        "RescaleSlope or RescaleIntercept cannot be a CT's.",
        "Correct the row; v2 does not use it.",
    ),
    "metadata.bad_orientation": (
        "error",
        "ImageOrientationPatient is not six numbers that make two perpendicular directions.",
        "Correct the row, or leave the cell blank.",
    ),
    "metadata.non_axial": (
        "warning",
        "ImageOrientationPatient says that the series is not axial.",
        "The v1 volume is refused; use v2, or pass the name in `exclude=`.",
    ),
    "metadata.v1_without_row": (
        "error",
        "A v1 volume has no metadata row, so its values cannot become HU.",
        "Download the metadata table again, or use v2.",
    ),
    "no_chest.bad_name": (
        "info",
        "A line of the no-chest list names no volume.",
        "Nothing to do: the line has no effect.",
    ),
    "no_chest.listed": (
        "info",
        "A volume on disk is on the list of scans that show no chest.",
        "Nothing to do: `exclude_no_chest=True` leaves it out.",
    ),
    "anatomy.bad_path": (
        "warning",
        "The anatomy is no path of one to five names.",
        "Leave the row out; regions are matched on the first name.",
    ),
    "anatomy.unknown_region": (
        "warning",
        "The anatomy's first name is none of the ten regions nor `others`.",
        "Add it to the region map, or leave the row out.",
    ),
    "anatomy.no_region_report": (
        "info",
        "No row of the volume carries the report of a whole region (an anatomy without a slash).",
        "The volume has no region report.",
    ),
    "anatomy.blank_sentence": ("warning", "The sentence is blank.", "Leave the row out."),
    "vqa.bad_presence": ("error", "The presence is neither 'Yes.' nor 'No.'.", "Leave the row out."),
    "vqa.bad_size": ("warning", "The size is not of the form '50 mm' or '6x4 mm'.", "Leave the row out."),
}
"""Code to severity, meaning and cure."""
