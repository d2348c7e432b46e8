"""CVAT: "CVAT for images 1.1" (annotations.xml) and Datumaro JSON, as CVAT exports them.

    <annotations>
      <image id="0" name="a.jpg" width="640" height="480">
        <box label="person" source="manual" occluded="0" xtl="10.00" ytl="20.00" xbr="110.00" ybr="220.00" z_order="0"
             group_id="1"></box>
        <box label="cup" ... group_id="1"><attribute name="verb">hold</attribute></box>
      </image>
    </annotations>

Boxes of a group are a person and the objects acted on, whose attribute `verb` says how (tool_export.py has the rule).
In Datumaro JSON the same fields are `group`, `attributes` and `bbox` (x, y, width, height); `size` is height, width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from hoiclip.core import untrusted_values as untrusted
from hoiclip.core.errors import DataError
from hoiclip.core.foreign_file import read_bytes
from hoiclip.core.untrusted_values import read_json
from hoiclip.core.vocabulary import Vocabulary
from hoiclip.data.annotations import ImageAnnotation
from hoiclip.data.formats.tool_export import (
    ToolBox,
    ToolExport,
    Words,
    attribute_verbs,
    count_ignored,
    grouped_interactions,
    image_annotation_of,
    naming,
    turned_about_middle,
)

_MOST_NODES = 1 << 20
"""Elements and attributes of one image, which are in memory together."""
_DEEPEST = 100


def read_cvat(path: Path, vocabulary: Vocabulary) -> ToolExport:
    """Reads annotations.xml, or Datumaro JSON where the name ends in .json.

    Raises:
        DataError: the file cannot be read, has another form, or groups or words are not clear; names image and box.
    """
    return _read_datumaro(path, vocabulary) if path.suffix.lower() == ".json" else _read_xml(path, vocabulary)


def _read_xml(path: Path, vocabulary: Vocabulary) -> ToolExport:
    export, words, names = ToolExport(), Words(vocabulary), set[str]()

    def read_image(image: Element) -> None:
        with naming(f"image {untrusted.shown(image.get('name'))}"):
            name = untrusted.file_name(image.get("name"), "name")
            untrusted.only_once(name, names, "name")
            names.add(name)
            export.annotations.append(_xml_image(name, image, words, export.notes))

    try:
        parser = XMLParser(target=_Images(read_image))
        parser.feed(read_bytes(path))
        parser.close()
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); expected CVAT's annotations.xml") from error
    except ParseError as error:
        raise DataError(f"{path} is no XML ({error}); expected annotations.xml out of the ZIP of CVAT") from error
    except (ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise DataError(f"{path}: {error}") from error
    return export


class _Images(TreeBuilder):
    """Passes on the images of annotations.xml one by one, and keeps none.

    Raises:
        ValueError: a DOCTYPE, which could define entities; the XML of something else; whatever `on_image` raises.
    """

    def __init__(self, on_image: Callable[[Element], None]) -> None:
        super().__init__()
        self._on_image = on_image
        self._open: list[Element] = []
        self._nodes = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which CVAT does not write and which is not read; remove it")

    def start(self, tag: str, attrs: dict[Any, Any], /) -> Element:
        self._nodes += 1 + len(attrs)
        if self._nodes > _MOST_NODES or len(self._open) == _DEEPEST:
            raise ValueError(f"more than {_MOST_NODES} elements in one image, or nested deeper than {_DEEPEST}")
        if not self._open and tag != "annotations":
            raise ValueError(f"expected CVAT's element annotations, found {untrusted.shown(tag)}")
        if len(self._open) == 1 and tag == "track":
            raise ValueError("expected 'CVAT for images 1.1', found tracks of 'CVAT for video'; export it as images")
        element = super().start(tag, attrs)
        self._open.append(element)
        return element

    def end(self, tag: str, /) -> Element:
        element = super().end(tag)
        self._open.pop()
        if len(self._open) == 1:
            if tag == "image":
                self._on_image(element)
            self._open[0].clear()
            self._nodes = 0
        return element


def _xml_image(name: str, image: Element, words: Words, notes: Counter[str]) -> ImageAnnotation:
    size_wh = untrusted.size_px(image.get("width"), "width"), untrusted.size_px(image.get("height"), "height")
    boxes: list[ToolBox] = []
    for shape in image:
        if shape.tag == "box":
            boxes.append(_xml_box(len(boxes) + 1, shape, words, notes))
        else:
            count_ignored(shape.tag, notes)
    return image_annotation_of(name, size_wh, boxes, grouped_interactions(boxes, words, "group"), words, notes)


def _xml_box(number: int, shape: Element, words: Words, notes: Counter[str]) -> ToolBox:
    with naming(f"box {number}"):
        label = words.label(shape.get("label"))
        corners = untrusted.box([shape.get(corner) for corner in ("xtl", "ytl", "xbr", "ybr")], "xtl, ytl, xbr, ybr")
        attributes = [(attribute.get("name"), attribute.text or "") for attribute in shape.iter("attribute")]
        group = untrusted.whole(shape.get("group_id", 0), "group_id")
        return ToolBox(
            name=f"box {number} ({words.vocabulary.object_name(label)})",
            box_xyxy=turned_about_middle(corners, shape.get("rotation"), notes),
            label=label,
            verbs=words.verbs(attribute_verbs(attributes)),
            group=str(group or ""),
        )


def _read_datumaro(path: Path, vocabulary: Vocabulary) -> ToolExport:
    export, words, names = ToolExport(), Words(vocabulary), set[str]()
    data = read_json(path)
    try:
        data = untrusted.fields(data, "Datumaro JSON")
        categories = untrusted.fields(data.get("categories"), "categories")
        labels = untrusted.items(untrusted.fields(categories.get("label"), "categories.label").get("labels"), "labels")
        for i, item in enumerate(untrusted.items(data.get("items"), "items")):
            with naming(f"items[{i}]"):
                row = untrusted.fields(item, "it")
                image = untrusted.fields(row.get("image"), "image")
                if image.get("path") == "":
                    raise ValueError("image.path is empty; export again with 'Save images', so that images have names")
                name = untrusted.file_name(image.get("path"), "image.path")
                untrusted.only_once(name, names, "image.path")
                names.add(name)
            with naming(f"image {untrusted.shown(name)}"):
                export.annotations.append(_datumaro_image(name, row, image.get("size"), labels, words, export.notes))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    return export


def _datumaro_image(
    name: str, row: dict[str, Any], size_hw: object, labels: list[Any], words: Words, notes: Counter[str]
) -> ImageAnnotation:
    size_wh = (0, 0)
    if size_hw is not None:
        sides = untrusted.items(size_hw, "image.size")
        if len(sides) != 2:
            raise ValueError(f"image.size must be height and width, found {untrusted.shown(sides)}")
        size_wh = untrusted.size_px(sides[1], "image.size"), untrusted.size_px(sides[0], "image.size")
    boxes: list[ToolBox] = []
    for shape in untrusted.items(row.get("annotations"), "annotations"):
        fields = untrusted.fields(shape, "an annotation")
        if fields.get("type") == "bbox":
            boxes.append(_datumaro_box(len(boxes) + 1, fields, labels, words, notes))
        else:
            count_ignored(fields.get("type"), notes)
    return image_annotation_of(name, size_wh, boxes, grouped_interactions(boxes, words, "group"), words, notes)


def _datumaro_box(number: int, shape: dict[str, Any], labels: list[Any], words: Words, notes: Counter[str]) -> ToolBox:
    with naming(f"box {number}"):
        labelled = untrusted.fields(
            labels[untrusted.index(shape.get("label_id"), "label_id", len(labels))], "its label"
        )
        label = words.label(labelled.get("name"))
        attributes = untrusted.fields(shape.get("attributes", {}), "attributes")
        x, y, width, height = untrusted.box(shape.get("bbox"), "bbox")
        group = untrusted.whole(shape.get("group", 0), "group")
        return ToolBox(
            name=f"box {number} ({words.vocabulary.object_name(label)})",
            box_xyxy=turned_about_middle((x, y, x + width, y + height), attributes.get("rotation"), notes),
            label=label,
            verbs=words.verbs(attribute_verbs(attributes.items())),
            group=str(group or ""),
        )
