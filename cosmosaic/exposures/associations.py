"""Which frames belong together: one association per filter, in the format that ``strun calwebb_image3`` takes."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosmosaic.records import Association, Frame, Record
from cosmosaic.steps.result import Made
from cosmosaic.storage.store import open_object

LARGEST_FILE_BYTES = 1 << 26
LEVEL_SUFFIXES = ("uncal", "rate", "rateints", "cal", "calints", "crf")


class AssociationError(ValueError):
    """An association cannot be used; the message names the file, what is wrong and the cure."""


class AssociationFile(Record):
    """What an association file asks for."""

    product_name: str
    members: tuple[str, ...]
    """Names of the frames, without level and extension, in the file's order."""


def make_associations(frames: Iterable[Frame], survey_name: str) -> list[Association]:
    """Group frames by filter and pupil, one association each, sorted by band.

    Product names are ``<survey>_<band>`` with the band in lower case. The order of the frames does not matter.

    Raises
    ------
    AssociationError
        Two frames of a band have the same name.
    """
    bands: dict[tuple[str, str, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        bands[frame.band, frame.filter, frame.pupil].append(frame)
    return [
        Association(
            product_name=f"{survey_name}_{band.lower()}",
            band=band,
            filter=filter_name,
            pupil=pupil,
            members=_member_names(members),
        )
        for (band, filter_name, pupil), members in sorted(bands.items())
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
    """Read which frames an association file (of ``asn_from_list``, MAST, or your own) asks for.

    Members that are no science (``exptype``) are left out; folders and levels of the members' names are dropped, so
    that an association of ``cal`` files selects the ``uncal`` frames of the same exposures too.

    Raises
    ------
    AssociationError
        It is no level-3 association in JSON with one product and science members.
    FileNotFoundError
        There is no such file.
    """
    document = _json_object(uri)
    products = document.get("products")
    if not isinstance(products, list) or not products:
        raise AssociationError(f"{uri} has no products: it is no association; make one with asn_from_list")
    if len(products) > 1:
        raise AssociationError(
            f"{uri} has {len(products)} products, as level-2 associations have; give one with a single product "
            f"(asn_from_list -r DMS_Level3_Base)"
        )
    product = products[0]
    product_name = product.get("name") if isinstance(product, dict) else None
    if not isinstance(product_name, str) or not product_name:
        raise AssociationError(f"{uri}: its product has no name; give asn_from_list --product-name")
    members = product.get("members")
    if not isinstance(members, list):
        raise AssociationError(f"{uri}: product {product_name} has no list of members")
    names = [_member_name(uri, member) for member in members if _is_science(uri, member)]
    if not names:
        raise AssociationError(f"{uri}: product {product_name} has no member with exptype 'science'")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise AssociationError(f"{uri}: member {', '.join(repeated)} is there more than once")
    return AssociationFile(product_name=product_name, members=tuple(names))


def select_frames(frames: Iterable[Frame], asked: AssociationFile, uri: str) -> list[Frame]:
    """Choose the frames that an association file asks for, in its order.

    Raises
    ------
    AssociationError
        A member is not among the frames, or the members are of several filters.
    """
    by_name = {frame.name: frame for frame in frames}
    missing = [name for name in asked.members if name not in by_name]
    if missing:
        raise AssociationError(
            f"{uri}: {len(missing)} of its {len(asked.members)} members are not among the frames: "
            f"{', '.join(missing)}; check raw, or why they were refused"
        )
    chosen = [by_name[name] for name in asked.members]
    check_same_band(chosen)
    return chosen


def check_same_band(frames: Sequence[Frame]) -> None:
    """Refuse a group of frames of several filters.

    Raises
    ------
    AssociationError
        The frames have more than one filter and pupil; every file is named under its own.
    """
    files: dict[str, list[str]] = defaultdict(list)
    for frame in frames:
        files[frame.band].append(frame.object.name)
    if len(files) < 2:
        return
    listed = "; ".join(f"{band}: {', '.join(sorted(names))}" for band, names in sorted(files.items()))
    raise AssociationError(
        f"filters are mixed in one association, and their mosaic would mean nothing: {listed}. "
        f"Make one association per filter"
    )


def _member_names(frames: Sequence[Frame]) -> tuple[str, ...]:
    by_name: dict[str, Frame] = {}
    for frame in frames:
        earlier = by_name.setdefault(frame.name, frame)
        if earlier is not frame:
            raise AssociationError(f"{earlier.object.uri} and {frame.object.uri} have the same name; keep one of them")
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
        raise AssociationError(f"{uri} has more than {LARGEST_FILE_BYTES} bytes: it is no association")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise AssociationError(f"{uri} is no JSON: {error}; associations in YAML need to be converted") from error
    if not isinstance(document, dict):
        raise AssociationError(f"{uri} is no association: it holds no JSON object")
    return document


def _is_science(uri: str, member: object) -> bool:
    if not isinstance(member, dict) or not isinstance(member.get("exptype"), str):
        raise AssociationError(f"{uri}: a member has no exptype: {str(member)[:200]}")
    return bool(member["exptype"].lower() == "science")


def _member_name(uri: str, member: dict[str, object]) -> str:
    file = member.get("expname")
    if not isinstance(file, str) or not file:
        raise AssociationError(f"{uri}: a member has no expname: {str(member)[:200]}")
    name = file.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".fits")
    stem, _, suffix = name.rpartition("_")
    return stem if stem and suffix in LEVEL_SUFFIXES else name
