"""Exports of annotation tools, written by hand in the shape in which the tools write them.

Each has the same content: two images, of which the second is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.formats.coco_attributes import read_coco_attributes
from hoiclip.data.formats.cvat import read_cvat
from hoiclip.data.formats.label_studio import read_label_studio
from hoiclip.data.formats.tool_export import ToolExport
from tests.hoiclip.small_datasets import save_json

CAFE = Vocabulary(
    name="cafe",
    objects=("person", "coffee_cup", "bench"),
    verbs=("hold", "drink_from", "sit_on", "walk", "hug"),
    hois=((0, 1), (1, 1), (2, 2), (3, 3), (4, 0)),
    hoi_prompts=("holding a cup", "drinking from a cup", "sitting on a bench", "walking", "hugging a person"),
    object_prompts=("a person", "a coffee cup", "a bench", "a person only", "nothing"),
    verb_prompts=("holding", "drinking from", "sitting on", "walking", "hugging"),
)
"""A person may walk without an object."""
EXPECTED = [
    ("hold", "person", "coffee cup"),
    ("drink from", "person", "coffee cup"),
    ("sit on", "person", "bench"),
    ("walk", "person", ""),
]
"""Of every export here, in its first image of two, whose size is 640 x 480."""
BOXES = {"sitting": (40, 60, 240, 420), "cup": (100.5, 120, 140, 165.25), "bench": (20, 300, 400, 460)}
WALKING = (420, 80, 560, 400)


# Label Studio


def region(name: str, label: str, box_xyxy: tuple[float, ...], rotation: float = 0) -> dict[str, Any]:
    x1, y1, x2, y2 = box_xyxy
    return {
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": {
            "x": x1 / 6.4,
            "y": y1 / 4.8,
            "width": (x2 - x1) / 6.4,
            "height": (y2 - y1) / 4.8,
            "rotation": rotation,
            "rectanglelabels": [label],
        },
        "id": name,
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "origin": "manual",
    }


def relation(start: str, end: str, *labels: str, direction: str = "right") -> dict[str, Any]:
    return {"from_id": start, "to_id": end, "type": "relation", "direction": direction, "labels": list(labels)}


def verb_choice(name: str, *verbs: str) -> dict[str, Any]:
    """A choice per region repeats the geometry of its region."""
    value = {"x": 1, "y": 1, "width": 1, "height": 1, "rotation": 0, "choices": list(verbs)}
    return {"id": name, "from_name": "verb", "to_name": "image", "type": "choices", "origin": "manual", "value": value}


def task(number: int, image: str, *result: dict[str, Any], **fields: object) -> dict[str, Any]:
    annotation = {
        "id": number,
        "completed_by": 1,
        "result": list(result),
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2024-05-02T09:12:44.101Z",
        "lead_time": 41.2,
        "prediction": {},
        "result_count": 0,
        "task": number,
        **fields,
    }
    return {
        "id": number,
        "annotations": [annotation],
        "file_upload": image.rsplit("/", 1)[-1],
        "drafts": [],
        "predictions": [],
        "data": {"image": image},
        "meta": {},
        "project": 3,
    }


def label_studio() -> list[dict[str, Any]]:
    return [
        task(
            1,
            "/data/upload/3/1b2c3d4e-a.jpg",
            region("s1", "person", BOXES["sitting"]),
            region("c1", "coffee cup", BOXES["cup"]),
            region("b1", "bench", BOXES["bench"]),
            region("w1", "person", WALKING),
            relation("s1", "c1", "hold", "drink_from"),
            relation("b1", "s1", "sit on", direction="left"),
            verb_choice("w1", "walk"),
        ),
        task(2, "/data/upload/3/99aabbcc-b.jpg"),
    ]


# CVAT

META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task><id>7</id><name>cafe</name><size>2</size><mode>annotation</mode>
      <labels><label><name>person</name><type>any</type><attributes><attribute><name>verb</name><mutable>False</mutable>
        <input_type>text</input_type><default_value></default_value><values></values></attribute></attributes></label>
      </labels></task><dumped>2024-05-02 09:12:44.101+00:00</dumped>
  </meta>
"""


def xml_box(label: str, box_xyxy: tuple[float, ...], group: int = 0, verb: str = "", more: str = "") -> str:
    corners = " ".join(
        f'{name}="{value:.2f}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), box_xyxy, strict=True)
    )
    grouped = f' group_id="{group}"' if group else ""
    return (
        f'    <box label="{label}" source="manual" occluded="0" {corners}{more} z_order="0"{grouped}>\n'
        f'      <attribute name="verb">{verb}</attribute>\n    </box>\n'
    )


def cvat_xml(*shapes: str) -> str:
    shapes = shapes or (
        xml_box("person", BOXES["sitting"], 1),
        xml_box("coffee cup", BOXES["cup"], 1, "hold, drink_from"),
        xml_box("bench", BOXES["bench"], 1, "sit_on"),
        xml_box("person", WALKING, 0, "walk"),
    )
    images = [("a.jpg", "".join(shapes)), ("b.jpg", "")]
    written = "".join(
        f'  <image id="{i}" name="{name}" width="640" height="480">\n{inside}  </image>\n'
        for i, (name, inside) in enumerate(images)
    )
    return f"{META}{written}</annotations>\n"


def datumaro() -> dict[str, Any]:
    names = ["person", "coffee cup", "bench", "unused"]

    def box(number: int, label: int, box_xyxy: tuple[float, ...], group: int, **attributes: object) -> dict[str, Any]:
        x1, y1, x2, y2 = box_xyxy
        return {
            "id": number,
            "type": "bbox",
            "attributes": {"occluded": False, "rotation": 0.0, **attributes},
            "group": group,
            "label_id": label,
            "z_order": 0,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }

    shapes = [
        box(0, 0, BOXES["sitting"], 1),
        box(1, 1, BOXES["cup"], 1, verb="hold", verb_2="drink from"),
        box(2, 2, BOXES["bench"], 1, verb="sit_on", verb_2="__undefined__"),
        box(3, 0, WALKING, 0, verb="walk"),
    ]
    images = [{"path": name, "size": [480, 640]} for name in ("a.jpg", "b.jpg")]
    return {
        "info": {},
        "categories": {
            "label": {
                "labels": [{"name": name, "parent": "", "attributes": []} for name in names],
                "attributes": ["occluded"],
            },
            "points": {"items": []},
        },
        "items": [
            {"id": "a", "annotations": shapes, "attr": {"frame": 0}, "image": images[0]},
            {"id": "b", "annotations": [], "attr": {"frame": 1}, "image": images[1]},
        ],
    }


# COCO


def coco() -> dict[str, Any]:
    """As CVAT writes it; category 0 is Roboflow's, which no annotation has."""

    def box(number: int, category: int, box_xyxy: tuple[float, ...], **attributes: object) -> dict[str, Any]:
        x1, y1, x2, y2 = box_xyxy
        return {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "segmentation": [],
            "area": (x2 - x1) * (y2 - y1),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
            "attributes": {"occluded": False, "rotation": 0.0, **attributes},
        }

    return {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""},
        "categories": [
            {"id": 0, "name": "cafe-objects", "supercategory": "none"},
            {"id": 1, "name": "person", "supercategory": ""},
            {"id": 2, "name": "coffee cup", "supercategory": ""},
            {"id": 3, "name": "bench", "supercategory": ""},
        ],
        "images": [
            {"id": i, "width": 640, "height": 480, "file_name": name, "license": 0, "date_captured": 0}
            for i, name in ((1, "a.jpg"), (2, "b.jpg"))
        ],
        "annotations": [
            box(1, 1, BOXES["sitting"], human="1", verb=""),
            box(2, 2, BOXES["cup"], human="1", verb="hold,drink_from"),
            box(3, 3, BOXES["bench"], human=1, verb=["sit_on"]),
            box(4, 1, WALKING, verb="walk"),
        ],
    }


def save_xml(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


Reader = Callable[[Path, Vocabulary], ToolExport]
JSON_EXPORTS: dict[str, tuple[Callable[[], Any], Reader]] = {
    "label-studio": (label_studio, read_label_studio),
    "cvat": (datumaro, read_cvat),
    "coco-attributes": (coco, read_coco_attributes),
}


def save_export(form: str, folder: Path) -> Path:
    if form == "cvat-xml":
        return save_xml(folder / "annotations.xml", cvat_xml())
    return save_json(folder / f"{form}.json", JSON_EXPORTS[form][0]())
