"""Findings about folders, headers, voxels and masks: severity (subset/full), meaning, cure."""

from __future__ import annotations

_AGAIN = "Download the file again; until then pass its name in `exclude=`."
_EXCLUDE = "Pass the volume's name in `exclude=`."

FILE_CODES: dict[str, tuple[str, str, str]] = {
    "count.fewer_than_published": (
        "info/error",
        "Fewer volumes, scans or patients are on disk than were published.",
        "Complete the download, or audit with `--expect subset` if only a part is wanted.",
    ),
    "count.more_than_published": (
        "warning",
        "More volumes, scans or patients are on disk than were published.",
        "Look for files that were added or renamed.",
    ),
    "tree.no_volumes": (
        "warning/error",
        "A split has no volumes on disk.",
        "Download its volumes, or work with the other split.",
    ),
    "tree.unreadable_folder": (
        "error",
        "A folder cannot be listed, so nothing below it was looked at.",
        "Check its permissions and that the disk is mounted.",
    ),
    "tree.symlink_loop": (
        "error",
        "A link leads back to a folder above it, or to one that was seen already.",
        "Remove the link; it was not followed.",
    ),
    "tree.too_deep": (
        "error",
        "Folders are nested deeper than any published layout; they were not looked into.",
        "Move the volumes to `split/patient/scan/volume.nii.gz`.",
    ),
    "tree.broken_link": ("error", "A link leads to no file.", "Mend or remove the link (the cache may be gone)."),
    "tree.special_file": (
        "error",
        "The name is a volume's, but it is a folder, pipe or device.",
        "Remove it; it was not opened for reading.",
    ),
    "tree.empty_file": ("error", "The file has zero bytes.", _AGAIN),
    "tree.partial_download": (
        "warning",
        "A leftover of an unfinished download.",
        "Let the download finish, or delete the leftover.",
    ),
    "tree.unexpected_file": (
        "info",
        "A file that is no volume lies among the volumes.",
        "Nothing reads it; move it elsewhere if it is in the way.",
    ),
    "tree.bad_name": (
        "warning",
        "The name is not of the form `train_1_a_2.nii.gz`, so the data sets leave the file out.",
        "Give it its published name.",
    ),
    "tree.wrong_split": (
        "error",
        "A volume of one split lies in the folder of the other.",
        "Move it; the data sets leave it out, other tools would train on test patients.",
    ),
    "tree.wrong_nesting": (
        "warning",
        "The volume is not in the folder that its name and the layout call for.",
        "Move it to the folder named; `CTRateDataset` finds it up to three folders down, "
        "but with `check_files=False` it does not.",
    ),
    "tree.duplicate_volume": (
        "warning",
        "The same volume lies in more than one place of one release.",
        "Keep one; the data sets read the first in order of folder names.",
    ),
    "tree.mixed_versions": (
        "warning",
        "Volumes exist as v1 (raw values) but not as v2 (`*_fixed`), beside others that do.",
        'With `version="auto"` only v2 is read: complete it, or pass `version="v1"`.',
    ),
    "tree.raw_in_fixed": (
        "error",
        "The v2 file equals its v1 twin byte for byte, so it holds raw values and not HU.",
        'Download the `*_fixed` file again, or read both as raw values: `hu_source="csv"`.',
    ),
    "tree.split_folder_name": (
        "info",
        "The folder of the validation split is called `validation*`, as some tables are, and not `valid*`.",
        "Nothing to do: `CTRateDataset` accepts both.",
    ),
    "tree.both_split_names": (
        "warning",
        "The validation split has two folders of one release, `valid*` and `validation*`.",
        "Merge them; the data sets read `valid*` only.",
    ),
    "tree.packed_archive": (
        "warning",
        "An archive lies beside the folder it should have been unpacked to, which does not exist.",
        "Unpack it (join `.part-*` files in order first).",
    ),
    "split.patient_in_both": (
        "error",
        "A patient appears in both splits.",
        "Pass the patient's volumes in `exclude=` for one of them, or correct the tables.",
    ),
    "split.same_content": (
        "error",
        "A training and a validation volume have the same content (same checksum and length).",
        "Pass one of the two in `exclude=`.",
    ),
    "header.same_content": (
        "warning",
        "Two volumes of one split have the same content (same checksum and length).",
        "Pass one of the two in `exclude=`, unless they are meant to be equal.",
    ),
    "header.unreadable_file": ("error", "The file cannot be read.", "Check its permissions and the disk."),
    "header.not_nifti": ("error", "The file is no single-file NIfTI volume.", _AGAIN),
    "header.damaged_gzip": ("error", "The gzip stream is damaged at its beginning.", _AGAIN),
    "header.truncated": (
        "error",
        "The file looks truncated: it ends before the voxels that its header promises "
        "(for gzip, the length at its end is not the one that the header calls for).",
        _AGAIN + " Files joined from several gzip streams look the same: `--deep` tells.",
    ),
    "header.trailing_data": (
        "warning",
        "The file decodes to more bytes than its header calls for.",
        "Nothing beyond the header's size is read; check the file with `--deep`.",
    ),
    "header.hostile_size": (
        "error",
        "The header claims more voxels than the file can hold or than a CT has.",
        "Do not open it with other tools, which may allocate that much. " + _AGAIN,
    ),
    "header.bad_dimensions": ("error", "The header's dimensions are zero, negative, or not 2-D or 3-D.", _EXCLUDE),
    "header.four_d": (
        "error",
        "The volume has more than three dimensions.",
        "Save one 3-D volume a file, or pass the name in `exclude=`.",
    ),
    "header.bad_offset": ("error", "The header's `vox_offset` cannot be.", _AGAIN),
    "header.bad_dtype": ("error", "The stored type is unknown or no real number.", "Convert the volume to int16."),
    "header.dtype": (
        "info",
        "The volume is not stored as int16.",
        "Nothing to do: it is rounded to int16 HU; the file is larger than need be.",
    ),
    "header.wrong_suffix": (
        "info",
        "The suffix and the content disagree about gzip.",
        "Nothing to do: files are opened by content; other tools go by the suffix.",
    ),
    "header.no_affine": (
        "warning",
        "The header holds no affine (neither sform nor qform).",
        "Nothing to do: axes are taken as L, P, S with the header's voxel sizes, and the repair is recorded.",
    ),
    "header.nan_affine": (
        "warning",
        "The affine holds NaN or infinite values.",
        "Nothing to do: it is rebuilt from the voxel sizes with axes L, P, S, and the repair is recorded. "
        "nibabel's `as_closest_canonical` fails on it.",
    ),
    "header.degenerate_affine": (
        "warning",
        "The affine has a zero axis or parallel axes.",
        "Nothing to do: it is rebuilt from the voxel sizes with axes L, P, S, and the repair is recorded.",
    ),
    "header.non_axial": (
        "warning",
        "The slices are not axial.",
        "It is read and reoriented (v2); pass the name in `exclude=` where thick slices matter.",
    ),
    "header.orientation": (
        "warning",
        "The axes are not those of the data set (L, P, S in v2, those of most volumes in RadGenome-ChestCT).",
        "Nothing to do: the header is obeyed. Tools that ignore the affine mirror this volume.",
    ),
    "header.oblique": (
        "info",
        "The grid is turned against the body axes.",
        "Nothing to do: the nearest orientation is taken; above 44 degrees the volume is refused.",
    ),
    "header.bad_spacing": (
        "error",
        "No usable voxel size: zero, NaN, or above 100 mm, in affine and voxel sizes.",
        "Pass `metadata=` to `load_volume`, or the name in `exclude=`.",
    ),
    "header.implausible_spacing": (
        "warning",
        "A voxel size or extent that no chest CT has.",
        "Compare with the metadata table; pass the name in `exclude=` if it is wrong.",
    ),
    "header.implausible_size": (
        "warning",
        "A number of rows, columns or slices that no chest CT has.",
        "Look at the volume; pass the name in `exclude=` if it is a localizer or a fragment.",
    ),
    "header.spacing_mismatch": (
        "warning",
        "The header's voxel size differs from the metadata table's.",
        'v2 is read by the header. Where the table is right, use the v1 file with `hu_source="csv"`.',
    ),
    "header.size_mismatch": (
        "warning",
        "The header's size differs from Rows, Columns and NumberofSlices of the metadata table.",
        "Slices may be missing; download again or pass the name in `exclude=`.",
    ),
    "header.scl_on_hu": (
        "warning",
        "The header asks for a rescale on values that are HU already.",
        '`hu_source="auto"` ignores it; nibabel\'s `get_fdata` would apply it. '
        'Where stored values are raw, pass `hu_source="header"`.',
    ),
    "header.bad_scl": (
        "error",
        "`scl_inter` is NaN or infinite beside a `scl_slope`, so the file is refused.",
        "Set `scl_slope` of a copy to 0 if the stored values are HU; else download the file again.",
    ),
    "header.units": (
        "warning",
        "The header gives its lengths in metres or micrometres.",
        "Lengths are read as millimetres whatever the header says; convert the file if they are not.",
    ),
    "mask.no_folder": (
        "warning/error",
        "A split has volumes but no folder of region masks.",
        "Download and unpack `*_region_mask.tar.gz`.",
    ),
    "mask.no_regions": (
        "warning",
        "The volume has no region mask at all.",
        "Leave it out of systems that need regions.",
    ),
    "mask.missing_region": (
        "info",
        "Some of the ten regions have no mask file.",
        "Usual (breast and thyroid are rare): mark the regions as absent.",
    ),
    "mask.without_volume": (
        "info/error",
        "A mask folder has no volume.",
        "Download the volume, or ignore the folder.",
    ),
    "mask.bad_folder_name": (
        "warning",
        "The folder's name is not of the form `seg_train_1_a_1`.",
        "Give it its published name.",
    ),
    "mask.unknown_name": (
        "warning",
        "The mask's name is none of the ten regions.",
        "Rename it; note the published spelling `trachea and bronchie`.",
    ),
    "mask.size_mismatch": (
        "error",
        "The mask's grid has another shape than its volume's.",
        "Resample the mask to the volume (nearest neighbour, by both affines), or leave the region out.",
    ),
    "mask.affine_mismatch": (
        "warning",
        "The mask's grid lies elsewhere than its volume's (another affine).",
        "Resample by the affines if both are right; copy the volume's affine if the mask's was lost.",
    ),
    "voxels.damaged": ("error", "The voxels cannot be decoded, or their checksum is wrong.", _AGAIN),
    "voxels.constant": ("error", "All voxels have one value.", _EXCLUDE),
    "voxels.not_hu": (
        "error",
        "The values are no Hounsfield units.",
        "The diagnosis names the cure: another `hu_source`, or `exclude=`.",
    ),
    "voxels.skipped": (
        "warning",
        "The volume was not decoded: it is larger than the audit takes into memory.",
        "Look at it by hand; a CT of that size is unusual.",
    ),
    "voxels.worker_died": (
        "error",
        "The process that decoded the file died, probably for lack of memory.",
        "Audit with fewer `--workers`; exclude the file if it happens again.",
    ),
    "voxels.empty_mask": (
        "warning",
        "The mask holds no voxel.",
        "Mark the region as absent.",
    ),
    "voxels.mask_values": (
        "error",
        "The mask holds values other than 0 and 1.",
        "Binarise it (`> 0`), or leave the region out.",
    ),
}
"""Code to severity, meaning and cure."""
