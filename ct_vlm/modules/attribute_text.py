"""Patient attributes as text in the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ct_vlm.attributes.result import PatientAttributes
from ct_vlm.attributes.text import render_attributes
from ct_vlm.errors import ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.features import Features


class AttributeText(Connector):
    """Splices the patient attributes of a batch into the prompt; it has no weights.

    The text goes where the prompt's template has ``{text}``, so it stands at the same place in
    every sample.

    Args:
        key: Key of the batch: one entry a sample, :class:`~ct_vlm.attributes.PatientAttributes`, what its
            ``to_dict`` returns, a finished text, or None for a sample without.
        max_listed: Lesions of a kind that are named one by one.
        required: Whether a batch without the key raises; otherwise it gets no text.

    Shape:
        - Output: a context of text alone, B strings.

    Raises:
        ShapeError: If the batch has no such key though it is required, or an entry is something else.

    Example:
        >>> import torch
        >>> from ct_vlm.attributes import Organ, PatientAttributes
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import AttributeText
        >>> batch = {"attributes": [PatientAttributes((Organ("heart", None, 640.0),))]}
        >>> AttributeText()(Features([torch.zeros(1, 1, 4)], [(1, 1, 1)]), batch).text[0][21:73]
        'Right lung: not assessed. Left lung: not assessed. H'

    References:
        MedRegion-CT, arXiv 2506.23102, section 3.4. The wording is inferred, see
        :func:`ct_vlm.attributes.render_attributes`.
    """

    def __init__(self, key: str = "attributes", *, max_listed: int = 10, required: bool = True) -> None:
        super().__init__()
        self.key, self.max_listed, self.required = key, max_listed, required

    @property
    def needs(self) -> tuple[str, ...]:
        """The key of the attributes, if they are required."""
        return (self.key,) if self.required else ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The key of the attributes."""
        return (self.key,)

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return the attributes' text of each sample."""
        entries = None if batch is None else batch.get(self.key)
        if entries is None:
            if not self.required:
                return VisualContext()
            cause = f"The batch holds no `{self.key}`, which `AttributeText` puts into the prompt."
            raise ShapeError(cause, "Measure them (`ct_vlm.attributes.measure_attributes`), or pass `required=False`.")
        size = features.levels[0].shape[0]
        if isinstance(entries, str) or len(entries) != size:
            have = f"{type(entries).__name__} of {len(entries)}"
            cause = f"Expected `{self.key}` as a list of {size} entries, one a sample, but got a {have}."
            raise ShapeError(cause, "Collate them as a list.")
        return VisualContext(text=[self._text(entry) for entry in entries])

    def _text(self, entry: Any) -> str:
        """Return the text of one sample."""
        if entry is None or isinstance(entry, str):
            return entry or ""
        if isinstance(entry, dict):
            entry = PatientAttributes.from_dict(entry)
        if not isinstance(entry, PatientAttributes):
            cause = f"Expected entries of `{self.key}` as patient attributes or text, but got {type(entry).__name__}."
            raise ShapeError(cause, "Pass what `measure_attributes` returned.")
        return render_attributes(entry, max_listed=self.max_listed)
