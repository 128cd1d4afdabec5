"""croissant.json: the release as Croissant 1.1 with the RAI vocabulary, for machines
(docs.mlcommons.org/croissant).

It is written here as plain JSON-LD; mlcroissant reads it in the tests and in `mien publish check`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien import licences
from mien.publish.formats import FIELDS, Layout
from mien.store import sha256

FILE = "croissant.json"
CONFORMS = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "prov": "http://www.w3.org/ns/prov#",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "usageInfo": "sc:usageInfo",
}
RAI = (
    *(
        "dataLimitations",
        "dataBiases",
        "personalSensitiveInformation",
        "dataUseCases",
        "dataSocialImpact",
    ),
    *("hasSyntheticData", "dataCollection", "dataCollectionType", "dataPreprocessingProtocol"),
    *(
        "dataAnnotationProtocol",
        "machineAnnotationTools",
        "dataManipulationProtocol",
        "dataReleaseMaintenancePlan",
    ),
)
"""The RAI fields that every release fills in."""

SPLITS = {"train": "cr:TrainingSplit", "test": "cr:TestSplit"}
RESEARCH = "http://purl.obolibrary.org/obo/DUO_0000042"  # general research use
NO_COMMERCE = "http://purl.obolibrary.org/obo/DUO_0000018"  # not for profit, non-commercial
KINDS = {"int64": "sc:Integer", "float": "sc:Float", "string": "sc:Text"}


def described(told: Mapping[str, Any], layout: Layout) -> dict[str, Any]:
    """Return croissant.json for a release of which `told` is what the documents share (see
    `card.told`).
    """
    asked, data = told["answers"], told["answers"]["dataset"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS,
        "name": data["name"],
        "description": data["description"],
        "license": licences.link(data["licence"]) or _licence(data["url"]),
        "url": data["url"],
        "creator": [_creator(name) for name in data["authors"]],
        "datePublished": data["date"],
        "version": data["version"],
        "keywords": told["keywords"],
        "citeAs": told["bibtex"],
        "isLiveDataset": False,
        "usageInfo": [{"@id": one} for one in _uses(told["asks"])],
        **{f"rai:{name}": text for name, text in rai(told, asked).items()},
        "prov:wasDerivedFrom": [
            {
                "@type": "prov:Entity",
                "prov:label": f"{one['name']} ({one['licence']}), {one['told']} seen",
            }
            for one in told["sources"]
        ],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": told["made_by"],
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "prov:label": f"mien {told['mien']}",
            },
        },
        "distribution": [_file(layout, split) for split in told["splits"]],
        "recordSet": [
            _labels(told["classes"]),
            _splits(told["splits"]),
            *(_images(one) for one in told["splits"]),
        ],
    }


def rai(told: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the RAI fields by name."""
    return {
        "dataLimitations": f"{asked['uses']['limitations']} {' '.join(told['warnings'])}".strip(),
        "dataBiases": asked["uses"]["biases"],
        "personalSensitiveInformation": asked["people"]["sensitive"],
        "dataUseCases": f"{asked['uses']['intended']} Excluded: {'; '.join(told['excluded'])}",
        "dataSocialImpact": asked["uses"]["impact"],
        "hasSyntheticData": True,
        "dataCollection": f"No image was photographed. {told['made_by']}",
        "dataCollectionType": ["Synthetic"],
        "dataPreprocessingProtocol": told["preprocessing"],
        "dataAnnotationProtocol": told["labels_are"],
        "machineAnnotationTools": [f"mien {told['mien']}"],
        "dataManipulationProtocol": told["filtering"],
        "dataReleaseMaintenancePlan": " ".join(asked["care"].values()),
    }


def _creator(name: str) -> dict[str, str]:
    family, comma, given = (part.strip() for part in name.partition(","))
    if comma:
        return {
            "@type": "sc:Person",
            "name": f"{given} {family}",
            "givenName": given,
            "familyName": family,
        }
    return {"@type": "sc:Organization", "name": name}


def _licence(url: str) -> str:
    return f"{url.rstrip('/')}/LICENSE" if "://" in url else "LICENSE"


def _uses(asks: Sequence[str]) -> list[str]:
    return [RESEARCH, *([NO_COMMERCE] if "nc" in asks else [])]


def _file(layout: Layout, split: str) -> dict[str, Any]:
    path = layout.parquet(split)
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": f"The images of the split {split}, with a row for each.",
        "contentUrl": path.relative_to(layout.root).as_posix(),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256(path),
    }


def _labels(classes: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "Expression labels and their numbers; never what a person feels.",
        "dataType": "sc:Enumeration",
        "key": [{"@id": "labels/number"}],
        "field": [
            {
                "@type": "cr:Field",
                "@id": "labels/number",
                "name": "labels/number",
                "dataType": "sc:Integer",
            },
            {
                "@type": "cr:Field",
                "@id": "labels/name",
                "name": "labels/name",
                "dataType": "sc:Text",
            },
        ],
        "data": [
            {"labels/number": number, "labels/name": name} for number, name in enumerate(classes)
        ],
    }


def _splits(splits: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits.",
        "dataType": "cr:Split",
        "key": [{"@id": "splits/name"}],
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "splits/url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": one, "splits/url": SPLITS[one].replace("cr:", CONTEXT["cr"])} for one in splits
        ],
    }  # fmt: skip


def _images(split: str) -> dict[str, Any]:
    name = f"images_{split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The images of the split {split}.",
        "key": [{"@id": f"{name}/image_id"}],
        "field": [_field(name, column, str(kind), split) for column, kind in FIELDS.items()],
    }


def _field(name: str, column: str, kind: str, split: str) -> dict[str, Any]:
    source: dict[str, Any] = {
        "fileObject": {"@id": Layout(Path()).parquet(split).name},
        "extract": {"column": column},
    }
    data_type: Any = "sc:ImageObject" if column == "image" else KINDS[kind]
    if column == "image":
        source["transform"] = {"jsonPath": "bytes"}
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{name}/{column}",
        "name": f"{name}/{column}",
    }
    if column == "label":
        data_type, found["references"] = (
            ["sc:Integer", "cr:Label"],
            {"field": {"@id": "labels/number"}},
        )
    if column == "split":
        data_type, found["references"] = ["sc:Text", "cr:Split"], {"field": {"@id": "splits/name"}}
    return {**found, "dataType": data_type, "source": source}
