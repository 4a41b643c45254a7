"""Where masks come from, kept with everything that is measured on them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

MaskKind = Literal["pseudo", "reference"]
"""``pseudo``: drawn by a model; ``reference``: drawn or checked by people, or known by construction."""


@dataclass(frozen=True)
class MaskProvenance:
    """Who made the masks of a scan.

    Args:
        kind: ``pseudo`` or ``reference``.
        source: What made them: a folder, a class name, the name of a function.
        identity: What tells this source from a later one: a checksum of files or weights, or a version.

    Raises:
        ConfigError: If the kind is unknown.

    Example:
        >>> from ct_vlm.attributes import MaskProvenance
        >>> MaskProvenance("pseudo", "my_segmenter", "v2").to_dict()
        {'kind': 'pseudo', 'source': 'my_segmenter', 'identity': 'v2'}
    """

    kind: MaskKind
    source: str
    identity: str = ""

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in get_args(MaskKind):
            cause = f"Expected the `kind` of masks to be one of {get_args(MaskKind)}, but got {self.kind!r}."
            raise ConfigError(cause, "Masks of a model are `pseudo`.")

    def to_dict(self) -> dict[str, str]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MaskProvenance:
        """Build from what :meth:`to_dict` returned."""
        return cls(values["kind"], values["source"], values.get("identity", ""))
