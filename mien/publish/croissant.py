"""croissant.json: the release as Croissant 1.1 with the RAI vocabulary.

See docs.mlcommons.org/croissant. It is written here as plain JSON-LD; mlcroissant reads it in the
tests and in `mien publish check`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mien import licences
from mien.publish.formats import RELEASE_COLUMNS, ReleaseLayout
from mien.runs.files import hash_file

CROISSANT_FILE = "croissant.json"

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]

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

RAI_FIELDS = (
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

SPLIT_TYPES = {"train": "cr:TrainingSplit", "test": "cr:TestSplit"}

DUO_RESEARCH = "http://purl.obolibrary.org/obo/DUO_0000042"  # general research use

DUO_NON_COMMERCIAL = "http://purl.obolibrary.org/obo/DUO_0000018"  # not for profit, non-commercial

DATA_TYPES = {"int64": "sc:Integer", "float": "sc:Float", "string": "sc:Text"}


def make_croissant(release_facts: Mapping[str, Any], layout: ReleaseLayout) -> dict[str, Any]:
    """Return croissant.json for a release; `release_facts` are the facts that `card.gather_facts`
    returns.
    """
    facts, answers = release_facts, release_facts["answers"]
    dataset = answers["dataset"]
    return {
        # What it is (schema.org)
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": dataset["name"],
        "description": dataset["description"],
        "license": licences.make_licence_link(dataset["licence"])
        or _make_licence_address(dataset["url"]),
        "url": dataset["url"],
        "creator": [_describe_creator(name) for name in dataset["authors"]],
        "datePublished": dataset["date"],
        "version": dataset["version"],
        "keywords": facts["keywords"],
        "citeAs": facts["bibtex"],
        "isLiveDataset": False,
        # What it may be used for, and its risks (DUO, RAI)
        "usageInfo": [{"@id": term} for term in _list_usage_terms(facts["asks"])],
        **{f"rai:{name}": text for name, text in list_rai_fields(facts, answers).items()},
        # Where it comes from (PROV)
        "prov:wasDerivedFrom": [
            {
                "@type": "prov:Entity",
                "prov:label": (
                    f"{source['name']} ({source['licence']}), {source['told']} seen in training"
                ),
            }
            for source in facts["sources"]
        ],
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "prov:label": facts["made_by"],
            "prov:wasAssociatedWith": {
                "@type": "prov:SoftwareAgent",
                "prov:label": f"mien {facts['mien']}",
            },
        },
        # How to read it
        "distribution": [_describe_file(layout, split) for split in facts["splits"]],
        "recordSet": [
            _describe_labels(facts["classes"]),
            _split_record_set(facts["splits"]),
            *(_describe_images(split) for split in facts["splits"]),
        ],
    }


def list_rai_fields(facts: Mapping[str, Any], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the RAI fields by name."""
    return {
        "dataLimitations": " ".join([answers["uses"]["limitations"], *facts["warnings"]]).strip(),
        "dataBiases": answers["uses"]["biases"],
        "personalSensitiveInformation": answers["people"]["sensitive"],
        "dataUseCases": f"{answers['uses']['intended']} Excluded: {'; '.join(facts['excluded'])}",
        "dataSocialImpact": answers["uses"]["impact"],
        "hasSyntheticData": True,
        "dataCollection": f"No image was photographed. {facts['made_by']}",
        "dataCollectionType": ["Synthetic"],
        "dataPreprocessingProtocol": facts["preprocessing"],
        "dataAnnotationProtocol": facts["labels_are"],
        "machineAnnotationTools": [f"mien {facts['mien']}"],
        "dataManipulationProtocol": facts["filtering"],
        "dataReleaseMaintenancePlan": " ".join(answers["care"].values()),
    }


def _describe_creator(name: str) -> dict[str, str]:
    family, comma, given_name = (name_part.strip() for name_part in name.partition(","))
    if comma:
        return {
            "@type": "sc:Person",
            "name": f"{given_name} {family}",
            "givenName": given_name,
            "familyName": family,
        }
    return {"@type": "sc:Organization", "name": name}


def _make_licence_address(url: str) -> str:
    return f"{url.rstrip('/')}/LICENSE" if "://" in url else "LICENSE"


def _list_usage_terms(asks: Sequence[str]) -> list[str]:
    return [DUO_RESEARCH, *([DUO_NON_COMMERCIAL] if "nc" in asks else [])]


def _describe_file(layout: ReleaseLayout, split: str) -> dict[str, Any]:
    path = layout.name_parquet(split)
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "description": f"The images of the split {split}, with a row for each.",
        "contentUrl": path.relative_to(layout.root).as_posix(),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hash_file(path),
    }


def _describe_labels(classes: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "Expression labels and their numbers; never what a person feels.",
        "dataType": "sc:Enumeration",
        "key": [{"@id": "labels/number"}],
        "field": [
            _describe_column("labels/number", "sc:Integer"),
            _describe_column("labels/name", "sc:Text"),
        ],
        "data": [
            {"labels/number": number, "labels/name": name} for number, name in enumerate(classes)
        ],
    }


def _describe_column(name: str, data_type: str) -> dict[str, Any]:
    """Return a field of a record set whose records are in croissant.json itself."""
    return {"@type": "cr:Field", "@id": name, "name": name, "dataType": data_type}


def _split_record_set(splits: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits.",
        "dataType": "cr:Split",
        "key": [{"@id": "splits/name"}],
        "field": [
            _describe_column("splits/name", "sc:Text"),
            _describe_column("splits/url", "sc:URL"),
        ],
        "data": [
            {"splits/name": split, "splits/url": SPLIT_TYPES[split].replace("cr:", CONTEXT["cr"])}
            for split in splits
        ],
    }


def _describe_images(split: str) -> dict[str, Any]:
    name = f"images_{split}"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The images of the split {split}.",
        "key": [{"@id": f"{name}/image_id"}],
        "field": [
            _describe_field(name, column, str(kind), split)
            for column, kind in RELEASE_COLUMNS.items()
        ],
    }


def _describe_field(name: str, column: str, column_type: str, split: str) -> dict[str, Any]:
    """Return a field of the record set `name` that reads a column of the Parquet file."""
    source: dict[str, Any] = {
        "fileObject": {"@id": ReleaseLayout(Path()).name_parquet(split).name},
        "extract": {"column": column},
    }
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{name}/{column}",
        "name": f"{name}/{column}",
    }
    data_type: Any = "sc:ImageObject" if column == "image" else DATA_TYPES[column_type]
    if column == "image":
        source["transform"] = {"jsonPath": "bytes"}
    if column == "label":
        data_type = ["sc:Integer", "cr:Label"]
        field["references"] = {"field": {"@id": "labels/number"}}
    if column == "split":
        data_type = ["sc:Text", "cr:Split"]
        field["references"] = {"field": {"@id": "splits/name"}}
    return {**field, "dataType": data_type, "source": source}
