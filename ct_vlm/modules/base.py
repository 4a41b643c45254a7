"""The contract of every connector: ``Features`` in, ``VisualContext`` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ct_vlm.component import Component

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.features import Features, VisualContext


class Connector(Component, ABC):
    """Base of the parts that turn encoder features into what a decoder reads.

    Several connectors compose: their contexts are concatenated along the token axis by
    :meth:`ct_vlm.features.VisualContext.concat`.

    Attributes:
        level_dims: Channels of the encoder levels that the connector is built for, fine to coarse;
            models compare them with the encoder's. None where any levels will do.
    """

    level_dims: tuple[int, ...] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the batch without which the connector raises."""
        return ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of the batch that the connector looks at, needed or not."""
        return self.needs

    @abstractmethod
    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Turn features (and, where needed, masks or spacing of the batch) into visual context."""
