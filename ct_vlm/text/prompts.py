"""The instruction a decoder reads before it writes a report."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

VISUAL_MARKER = "<visual>"
TEXT_SLOT = "{text}"
_EMPTY_SLOT = re.compile(r"\{text\}\s*")


@dataclass(frozen=True)
class ReportPrompt:
    """Template of the prompt of a report model.

    ``{text}`` marks where the text of a visual context (e.g. patient attributes) goes; it may be
    absent, and then no context may bring text. ``<visual>`` marks where the visual tokens go;
    without it they come before the whole prompt.

    Args:
        template: Instruction text with at most one ``{text}`` and at most one ``<visual>``.

    Raises:
        ConfigError: If a slot or the marker occurs twice.

    Example:
        >>> from ct_vlm.text.prompts import ReportPrompt
        >>> ReportPrompt().render()
        'Write the report:'
        >>> ReportPrompt("Scan: <visual> {text} Describe it.").split("Lung volume 4.5 L.")
        ('Scan: ', ' Lung volume 4.5 L. Describe it.')
    """

    template: str = "{text}\nWrite the report:"

    def __post_init__(self) -> None:
        """Check that each slot occurs at most once."""
        for slot in (TEXT_SLOT, VISUAL_MARKER):
            if self.template.count(slot) > 1:
                cause = f"`{slot}` occurs {self.template.count(slot)} times in the prompt template {self.template!r}."
                raise ConfigError(cause, "Keep one.")

    def render(self, text: str = "") -> str:
        """Return the prompt with the text spliced in; the visual marker stays.

        Args:
            text: Text of the visual context of one sample; a marker inside it is dropped.

        Raises:
            ConfigError: If there is text and the template has no ``{text}``.
        """
        text = text.replace(VISUAL_MARKER, "")
        if not text:
            return _EMPTY_SLOT.sub("", self.template)
        if TEXT_SLOT not in self.template:
            cause = f"The visual context brings text, but the prompt template {self.template!r} has no `{{text}}`."
            raise ConfigError(cause, "Put `{text}` where that text belongs.")
        return self.template.replace(TEXT_SLOT, text)

    def split(self, text: str = "") -> tuple[str, str]:
        """Return the prompt before and after the visual tokens.

        Args:
            text: Text of the visual context of one sample; a marker inside it is dropped.
        """
        before, marker, after = self.template.partition(VISUAL_MARKER)
        if not marker:
            return "", self.render(text)
        rendered = self.render(text)
        if TEXT_SLOT in before:
            return rendered[: len(rendered) - len(after) - len(marker)], after
        return before, rendered[len(before) + len(marker) :]

    def to_config(self) -> dict[str, Any]:
        """Return the ``class_path`` / ``init_args`` config of this prompt."""
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": asdict(self)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ReportPrompt:
        """Build a prompt from :meth:`to_config` or from its arguments alone.

        Args:
            config: ``{"template": ...}``, or the whole config.

        Raises:
            ConfigError: If a key is unknown.
        """
        args = dict(config.get("init_args") or {}) if "class_path" in config else dict(config)
        if unknown := sorted(set(args) - {"template"}):
            cause = f"Unknown prompt settings {unknown}."
            raise ConfigError(cause, "The only setting is `template`.")
        return cls(**args)
