"""What can be fetched for a merge, part by part: the weights of one model, or the test pictures of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from neuromerge.evaluation import hub as pictures
from neuromerge.evaluation.families import SampleSource
from neuromerge.hub import files
from neuromerge.hub.addresses import HUB, at_commit, parse_hub
from neuromerge.hub.files import Listing
from neuromerge.hub.weight_files import COMPANIONS, hub_weights
from neuromerge.progress import UNATTENDED, Job

if TYPE_CHECKING:
    from neuromerge.evaluation.families import Family


@dataclass(frozen=True, slots=True)
class Part:
    """Something on the Hub that is fetched in one go.

    Attributes:
        task: whose expert or pictures these are; "" for the base.
        title: what people call the task, or the family where this is its base.
        source: where the weights are; "" for pictures.
        samples: where the pictures are; None for weights.
        family: the family's name.
    """

    task: str
    title: str
    source: str = ""
    samples: SampleSource | None = None
    family: str = ""

    @property
    def is_weights(self) -> bool:
        """Whether these are weights; else pictures."""
        return self.samples is None

    @property
    def is_base(self) -> bool:
        """Whether these are the weights of a base."""
        return self.is_weights and not self.task

    @property
    def key(self) -> str:
        """Names the same thing for everybody who wants it."""
        return self.source if self.samples is None else f"pictures:{pictures.cached_file(self.samples).name}"

    def kept(self) -> str | None:
        """Where the part is in the cache (the source with its commit, of weights), None where it is not. No network."""
        if self.samples is not None:
            return self.key if pictures.cached_file(self.samples).is_file() else None
        repository, inside, revision = parse_hub(self.source)
        found = files.kept(repository, inside, revision, hub_weights)
        return None if found is None else at_commit(self.source, found.name)

    def listing(self, job: Job = UNATTENDED) -> Listing | None:
        """What has to be fetched of a repository of weights, None for pictures. Asks the Hub; raises as `files`."""
        if not self.is_weights:
            return None
        return files.listing(*parse_hub(self.source), hub_weights, COMPANIONS, job)

    def fetch(self, listing: Listing | None, job: Job = UNATTENDED) -> None:
        """Fetch the part into the cache. Raises SourceUnavailableError or StorageError."""
        if self.samples is not None:
            pictures.load_or_fetch(self.samples, f"neuromerge models --fetch {self.family} --tasks {self.task}", job)
        else:
            files.fetch(listing or files.listing(*parse_hub(self.source), hub_weights, COMPANIONS, job), job)


def as_json(part: Part, listing: Listing | None) -> dict[str, Any]:
    """A part, and what was listed of it, as JSON can hold them."""
    return {"part": asdict(part), "listing": None if listing is None else asdict(listing)}


def from_json(data: dict[str, Any]) -> tuple[Part, Listing | None]:
    """What `as_json` wrote."""
    part, listed = data["part"], data["listing"]
    samples = None if part["samples"] is None else SampleSource(**part["samples"])
    files_listed = None if listed is None else tuple((str(name), int(size)) for name, size in listed["files"])
    return (
        Part(part["task"], part["title"], part["source"], samples, part["family"]),
        None
        if listed is None
        else Listing(listed["repository"], listed["revision"], listed["commit"], files_listed or ()),
    )


def parts_of(family: Family, tasks: Sequence[str]) -> tuple[Part, ...]:
    """All that merging and measuring `tasks` needs of the Hub: base, experts, pictures, in this order."""
    wanted = [weights_of(family, None), *(weights_of(family, task) for task in tasks)]
    wanted += [pictures_of(family, task) for task in tasks]
    return tuple(part for part in wanted if part is not None)


def weights_of(family: Family, task: str | None) -> Part | None:
    """The weights of an expert, of the base for None; None where they are not on the Hub."""
    source = family.source(task)
    title = family.title if task is None else title_of(family, task)
    return Part(task or "", title, source, family=family.name) if source.startswith(HUB) else None


def pictures_of(family: Family, task: str) -> Part | None:
    """The test pictures of a task; None where they are not on the Hub, or there are none."""
    spec = family.tasks.get(task)
    if spec is None or spec.samples.kind != "hub":
        return None
    return Part(task, spec.title, samples=spec.samples, family=family.name)


def title_of(family: Family, task: str) -> str:
    """What people call a task."""
    return family.tasks[task].title if task in family.tasks else task
