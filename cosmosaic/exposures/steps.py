"""Steps that list the exposures of a mosaic."""

from collections.abc import Mapping
from dataclasses import dataclass

from cosmosaic.exposures.files import Cal
from cosmosaic.exposures.members import Member
from cosmosaic.records import Association
from cosmosaic.steps.declaration import Outputs, Step
from cosmosaic.steps.files import File


class AssociationFile(File, suffix="_asn.json", kind="asn", folder="exposures"):
    """The exposures of a mosaic, as a JWST association."""


@dataclass(frozen=True)
class WrittenAssociation(Outputs):
    """An association."""

    association: AssociationFile


@dataclass(frozen=True, kw_only=True)
class WriteAssociation(Step[WrittenAssociation]):
    """Write the exposures of a filter as a JWST association."""

    title = "Association"
    version = 3
    function = "cosmosaic.exposures.associations:write_association"
    per = "filter"

    cals: Mapping[str, Cal]
    association: Association


class MemberTable(File, suffix="_members.parquet", kind="members"):
    """The exposures of a mosaic, with the checksums of their raw files."""


@dataclass(frozen=True)
class ListedMembers(Outputs):
    """The exposures of a mosaic."""

    members: MemberTable


@dataclass(frozen=True, kw_only=True)
class ListMembers(Step[ListedMembers]):
    """List the exposures of a mosaic with the checksums of their raw files."""

    title = "Members"
    version = 1
    function = "cosmosaic.exposures.members:list_members"
    per = "mosaic"

    members: tuple[Member, ...]
    stem: str
