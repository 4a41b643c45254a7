"""The instructions of a model that is asked region by region."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from ct_vlm.errors import ConfigError
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.text.region_reports import check_regions, region_heading
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

MissingText = Literal["normal", "skip"]

REGION_SETS: dict[str, tuple[str, ...]] = {"six": MEDREGION_REGIONS, "ten": RADGENOME_REGIONS}
"""Named lists of regions."""


@dataclass(frozen=True)
class RegionPrompts:
    r"""How a model is asked for one region after another, and what it learns to answer.

    Args:
        regions: ``six`` (MedRegion-CT's), ``ten`` (RadGenome-ChestCT's), or any names, in the order of
            the merged report.
        template: Instruction for one region, with ``{region}`` (or ``{Region}``, capitalised) and, as
            in :class:`ReportPrompt`, at most one ``{text}`` and one ``<visual>``. The wording is
            inferred.
        missing: What is learnt of a region that the reference does not mention: ``skip`` leaves
            the region of that sample out of training, ``normal`` teaches one fixed sentence.
        normal: That sentence, with ``{region}`` or ``{Region}``; inferred.
        regions_per_sample: Regions drawn of each sample in a training step, of those with something to
            learn; None takes all. torch's generator draws, so that a seeded run can be repeated.
        max_texts: Texts that are generated at a time; None makes all regions of a batch one decoder
            batch.

    Raises:
        ConfigError: If names or templates cannot be used, or a number is not positive.

    Example:
        >>> from ct_vlm.text import RegionPrompts
        >>> prompts = RegionPrompts(["lung", "heart"])
        >>> prompts.render("heart", "Heart: 640 mL.")
        'Heart: 640 mL.\nDescribe the heart in this chest CT:'
        >>> prompts.target("heart", {"lung": "Clear."}) is None
        True

    References:
        MedRegion-CT, arXiv 2506.23102, section 3: a text for each of six regions, then merged.
        Instruction and normal sentence are not published; both are ours.
    """

    regions: str | list[str] | tuple[str, ...] = "six"
    template: str = "{text}\nDescribe the {region} in this chest CT:"
    missing: MissingText = "skip"
    normal: str = "No abnormality of the {region} is described."
    regions_per_sample: int | None = None
    max_texts: int | None = None

    def __post_init__(self) -> None:
        """Resolve the names of the regions and check every setting."""
        if isinstance(self.regions, str):
            if self.regions not in REGION_SETS:
                cause = f"Expected `regions` as 'six', 'ten' or a list of names, but got {self.regions!r}."
                raise ConfigError(cause, "Pass a list even for a single region.")
            object.__setattr__(self, "regions", REGION_SETS[self.regions])
        object.__setattr__(self, "regions", check_regions(tuple(self.regions)))
        if not self.regions:
            msg = "`regions` is empty."
            raise ConfigError(msg, "Name at least one region.")
        if self.missing not in get_args(MissingText):
            cause = f"Expected `missing` to be one of {get_args(MissingText)}, but got {self.missing!r}."
            raise ConfigError(cause, "Use 'skip'.")
        for name in ("regions_per_sample", "max_texts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                cause = f"Expected `{name}` to be positive, but got {value}."
                raise ConfigError(cause, "Leave it out for no limit.")
        self._check_template()

    @property
    def names(self) -> tuple[str, ...]:
        """The regions, in the order of the merged report."""
        return tuple(self.regions)

    def render(self, region: str, text: str = "") -> str:
        """Return the instruction for one region.

        Args:
            region: One of the regions.
            text: Text of the visual context of one sample, e.g. patient attributes.
        """
        return ReportPrompt(_fill(self.template, region)).render(text)

    def target(self, region: str, reports: Mapping[str, str]) -> str | None:
        """Return what is learnt of one region, or None where it is left out.

        Args:
            region: One of the regions.
            reports: Region to text of one sample.
        """
        text = reports.get(region, "")
        if text.strip():
            return text
        return _fill(self.normal, region) if self.missing == "normal" else None

    def to_config(self) -> dict[str, Any]:
        """Return the ``class_path`` / ``init_args`` config of these prompts."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["regions"] = list(self.regions)
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": values}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> RegionPrompts:
        """Build the prompts from :meth:`to_config` or from their arguments alone.

        Args:
            config: The arguments, or the whole config.

        Raises:
            ConfigError: If a key is unknown.
        """
        args = dict(config.get("init_args") or {}) if "class_path" in config else dict(config)
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(args) - set(known)):
            cause = f"Unknown settings of region prompts {unknown}."
            raise ConfigError(cause, f"The settings are {', '.join(known)}.")
        return cls(**args)

    def _check_template(self) -> None:
        """Raise unless every region is asked for in words of its own."""
        if len({_fill(self.template, name) for name in self.names}) < len(self.names):
            cause = f"The template {self.template!r} asks for every region in the same words."
            raise ConfigError(cause, "Put `{region}` where the name of the region belongs.")
        for name in self.names:
            ReportPrompt(_fill(self.template, name))


def _fill(template: str, region: str) -> str:
    """Put the name of a region into a template; its other braces stay."""
    return template.replace("{region}", region).replace("{Region}", region_heading(region))
