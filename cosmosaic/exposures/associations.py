"""Associations: one per filter, in the format that ``strun calwebb_image3`` takes."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cosmosaic.exposures.keywords import NAME_PATTERN
from cosmosaic.exposures.search import FoundExposures
from cosmosaic.nircam import wheels_of
from cosmosaic.records import Association, Exposure, Record, RefusedFile
from cosmosaic.steps.result import Made
from cosmosaic.storage.store import open_object

LARGEST_FILE_BYTES = 1 << 26
SHOWN_MEMBERS = 5


class AssociationError(ValueError):
    """An association cannot be used; the message names the file, the fault and the remedy."""


class AssociationFile(Record):
    """Product and members of an association file."""

    product_name: str
    members: tuple[str, ...]
    """Names of its files without folder and extension, in the file's order."""


def make_associations(exposures: Iterable[Exposure], survey_name: str) -> list[Association]:
    """Group exposures by band, one association each, sorted by band.

    Product names are ``<survey>_<band>`` with the band in lower case, e.g. ``cosmos_f470n``. The order of the
    exposures does not matter.

    Raises
    ------
    AssociationError
        Two exposures of a band have the same name.
    """
    bands: dict[str, list[Exposure]] = defaultdict(list)
    for exposure in exposures:
        bands[exposure.band].append(exposure)
    return [
        Association(
            product_name=f"{survey_name}_{band.lower()}",
            band=band,
            filter=wheels_of(band)[0],
            pupil=wheels_of(band)[1],
            members=_member_names(members),
        )
        for band, members in sorted(bands.items())
    ]


def association_json(association: Association, member_files: Mapping[str, str]) -> str:
    """Write an association as standard level-3 JSON.

    Parameters
    ----------
    association
        Its members are written in their order.
    member_files
        File name of each member, e.g. ``..._cal.fits``; without folders, because jwst looks for members beside
        the association.

    Raises
    ------
    AssociationError
        A member has no file, two have the same, or a file name has a folder.
    """
    files = [_file_of(association, name, member_files) for name in association.members]
    if len(set(files)) != len(files):
        raise AssociationError(f"association {association.product_name}: two members have the same file name")
    document = {
        "asn_type": "image3",
        "asn_rule": "DMS_Level3_Base",
        "version_id": None,
        "code_version": None,
        "degraded_status": "No known degraded exposures in association.",
        "program": "noprogram",
        "constraints": "No constraints",
        "asn_id": "a3001",
        "asn_pool": "none",
        "target": "none",
        "products": [
            {
                "name": association.product_name,
                "members": [{"expname": file, "exptype": "science"} for file in files],
            }
        ],
    }
    return json.dumps(document, indent=4) + "\n"


def write_association(cals: Mapping[str, Path], association: Association, folder: Path) -> Made:
    """Write the association of one filter for the ``_cal`` files of its members."""
    path = folder / f"{association.product_name}_asn.json"
    path.write_text(association_json(association, {name: cal.name for name, cal in cals.items()}))
    return Made(association=path)


def read_association(uri: str) -> AssociationFile:
    """Read the members of an association file (of ``asn_from_list``, MAST, or your own).

    Members whose ``exptype`` is not science are left out, and folders are removed from the members' names.

    Raises
    ------
    AssociationError
        It is not a level-3 association in JSON with one product and science members.
    FileNotFoundError
        There is no such file.
    """
    document = _json_object(uri)
    products = document.get("products")
    if not isinstance(products, list) or not products:
        raise AssociationError(f"{uri} is not an association: it has no products; make one with asn_from_list")
    if len(products) > 1:
        raise AssociationError(
            f"{uri} has {len(products)} products, like a level-2 association; give one with a single product "
            f"(asn_from_list -r DMS_Level3_Base)"
        )
    product = products[0]
    product_name = product.get("name") if isinstance(product, dict) else None
    if not isinstance(product_name, str) or not product_name:
        raise AssociationError(f"{uri}: its product has no name; give asn_from_list --product-name")
    members = product.get("members")
    if not isinstance(members, list):
        raise AssociationError(f"{uri}: product {product_name} has no list of members")
    names = [_member_file(uri, member) for member in members if _is_science(uri, member)]
    if not names:
        raise AssociationError(f"{uri}: product {product_name} has no member with exptype 'science'")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise AssociationError(f"{uri}: member {', '.join(repeated)} is listed more than once")
    return AssociationFile(product_name=product_name, members=tuple(names))


def select_exposures(exposures: Iterable[Exposure], asked: AssociationFile, uri: str) -> list[Exposure]:
    """Choose the members of an association file, in its order, each once.

    A member is matched by the exposure at the beginning of its name, whatever follows: ``_cal``, ``_tweakreg``,
    ``_a3001_crf`` or a team's own suffix. So an association of any level selects the same exposures. Members that
    were not found are left out; `missing_members` lists them with the reason.

    Raises
    ------
    AssociationError
        None of the members was found, or the members are of several filters.
    """
    by_name = {exposure.name: exposure for exposure in exposures}
    found = (_exposure_of(member, by_name) for member in asked.members)
    chosen = list(dict.fromkeys(name for name in found if name is not None))
    if not chosen:
        shown = ", ".join(asked.members[:SHOWN_MEMBERS])
        raise AssociationError(
            f"{uri}: none of its {len(asked.members)} members ({shown}, ...) is among the {len(by_name)} exposures; "
            f"check raw, or why they were refused"
        )
    check_same_band([by_name[name] for name in chosen])
    return [by_name[name] for name in chosen]


def asked_exposures(found: FoundExposures, association: str | None) -> FoundExposures:
    """Keep only the members of the user's association file; all exposures if there is none.

    Raises
    ------
    AssociationError
        A member was not found, or the members are of several filters.
    """
    if association is None:
        return found
    asked = read_association(association)
    missing = missing_members(found.exposures, (*found.refused, *found.unasked), asked, association)
    chosen = tuple(select_exposures(found.exposures, asked, association))
    return replace(found, exposures=chosen, refused=(*found.refused, *missing))


def missing_members(
    exposures: Iterable[Exposure], refused: Iterable[RefusedFile], asked: AssociationFile, uri: str
) -> tuple[RefusedFile, ...]:
    """List the members of an association file that were not found, with the reason, in its order.

    Parameters
    ----------
    exposures, refused
        The exposures of the survey, and the files that cannot take part.
    asked, uri
        The association file, and its name.
    """
    by_name = {exposure.name: exposure for exposure in exposures}
    reasons = {_file_stem(entry.uri): entry.reason for entry in refused}
    missing = []
    for member in asked.members:
        if _exposure_of(member, by_name) is not None:
            continue
        file = next((stem for stem in reasons if _exposure_name(stem) == _exposure_name(member)), None)
        why = f"{file}.fits {reasons[file]}" if file else "there is no file of this exposure under raw"
        missing.append(RefusedFile(uri=member, reason=f"is a member of {uri}, and is not used: {why}"))
    return tuple(missing)


def check_same_band(exposures: Sequence[Exposure]) -> None:
    """Refuse exposures of several filters.

    Raises
    ------
    AssociationError
        The exposures have more than one band; the message lists the files of each.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for exposure in exposures:
        files[exposure.band].append(exposure.object.name)
    if len(files) < 2:
        return
    listed = "; ".join(f"{band}: {', '.join(sorted(names))}" for band, names in sorted(files.items()))
    raise AssociationError(
        f"filters are mixed in one association, and their mosaic would mean nothing: {listed}. "
        f"Make one association per filter"
    )


def _member_names(exposures: Sequence[Exposure]) -> tuple[str, ...]:
    by_name: dict[str, Exposure] = {}
    for exposure in exposures:
        earlier = by_name.setdefault(exposure.name, exposure)
        if earlier is not exposure:
            raise AssociationError(
                f"{earlier.object.uri}, {exposure.object.uri}: two files of the same name; keep one of them"
            )
    return tuple(sorted(by_name))


def _file_of(association: Association, name: str, member_files: Mapping[str, str]) -> str:
    if name not in member_files:
        raise AssociationError(f"association {association.product_name}: no file is given for its member {name}")
    file = member_files[name]
    if "/" in file or "\\" in file:
        raise AssociationError(f"association {association.product_name}: {file} has a folder; give the file name alone")
    return file


def _json_object(uri: str) -> dict[str, object]:
    with open_object(uri) as stream:
        content = stream.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise AssociationError(f"{uri} is not an association: it has more than {LARGEST_FILE_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AssociationError(f"{uri} is not JSON: {error}; convert associations in YAML") from error
    if not isinstance(document, dict):
        raise AssociationError(f"{uri} is not an association: it does not hold a JSON object")
    return document


def _is_science(uri: str, member: object) -> bool:
    if not isinstance(member, dict) or not isinstance(member.get("exptype"), str):
        raise AssociationError(f"{uri}: a member has no exptype: {str(member)[:200]}")
    return bool(member["exptype"].lower() == "science")


def _member_file(uri: str, member: dict[str, object]) -> str:
    file = member.get("expname")
    if not isinstance(file, str) or not file:
        raise AssociationError(f"{uri}: a member has no expname: {str(member)[:200]}")
    return _file_stem(file)


def _file_stem(file: str) -> str:
    """File name without folders, however they are written, and without extension."""
    return file.replace("\\", "/").rsplit("/", 1)[-1].split(".fits")[0]


def _exposure_of(member: str, by_name: Mapping[str, Exposure]) -> str | None:
    """Return the longest name of an exposure with which a member's name begins, in whole words."""
    parts = member.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in by_name), None)


def _exposure_name(stem: str) -> str:
    """Exposure and detector of a JWST name; any other name without its last word."""
    found = NAME_PATTERN.match(stem)
    return found.group() if found else stem.rsplit("_", 1)[0]
