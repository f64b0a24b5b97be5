"""The documented interface XML, read: what is served, what is checked, what types values have.

The files in `interfaces/` are the one source: the daemon reads them, `install_host` puts the same
files where a distribution keeps interface files, and no signature is written down in code.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from xml.etree import ElementTree as ET

from p2vd.bus.names import INTERFACES, OBJECT_MANAGER

_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)
_ACTION = "org.p2vd1.Action"
_OPTIONS = "org.p2vd1.Options"
_READS = "org.p2vd1.Reads"


@dataclass(frozen=True)
class Method:
    """A method: its signatures, the options it takes with their types, the polkit action ("": none).

    `arguments`: the names of what goes in. `reads`: it changes nothing, and is no matter for the audit.
    """

    name: str
    in_signature: str
    out_signature: str
    options: Mapping[str, str]
    action: str
    arguments: tuple[str, ...] = ()
    reads: bool = False


@dataclass(frozen=True)
class Interface:
    """An interface: its members, and its XML without comments."""

    name: str
    methods: Mapping[str, Method]
    properties: Mapping[str, str]
    signals: Mapping[str, str]
    xml: str


@cache
def interfaces() -> Mapping[str, Interface]:
    """Every interface of p2vd by name."""
    folder = files("p2vd.bus").joinpath("interfaces")
    return {
        name: _interface(element)
        for name in INTERFACES
        for element in _elements(folder.joinpath(f"{name}.xml").read_text("utf-8"))
    }


@cache
def standard() -> Mapping[str, Interface]:
    """The interfaces of the D-Bus specification that every object, or the root, has besides."""
    text = files("p2vd.bus").joinpath("standard.xml").read_text("utf-8")
    return {element.attrib["name"]: _interface(element) for element in _elements(text)}


def node_xml(names: Iterable[str], children: Iterable[str], *, is_root: bool) -> str:
    """Return what Introspect answers for an object with the interfaces `names` and `children` below."""
    own = [interfaces()[name].xml for name in names]
    common = [spec.xml for name, spec in standard().items() if is_root or name != OBJECT_MANAGER]
    below = [f'<node name="{child}"/>' for child in sorted(children)]
    return _DOCTYPE + "<node>\n" + "\n".join([*own, *common, *below]) + "\n</node>\n"


def _elements(text: str) -> list[ET.Element]:
    return ET.fromstring(text).findall("interface")  # noqa: S314  (our own files)


def _interface(element: ET.Element) -> Interface:
    methods = {method.attrib["name"]: _method(method) for method in element.findall("method")}
    return Interface(
        name=element.attrib["name"],
        methods=methods,
        properties={item.attrib["name"]: item.attrib["type"] for item in element.findall("property")},
        signals={item.attrib["name"]: _signature(item, None) for item in element.findall("signal")},
        xml=ET.tostring(element, "unicode").rstrip(),
    )


def _method(element: ET.Element) -> Method:
    notes = {item.attrib["name"]: item.attrib["value"] for item in element.findall("annotation")}
    options = (entry.partition(":") for entry in notes.get(_OPTIONS, "").split())
    return Method(
        name=element.attrib["name"],
        in_signature=_signature(element, "in"),
        out_signature=_signature(element, "out"),
        options={name: signature for name, _, signature in options},
        action=notes.get(_ACTION, ""),
        arguments=tuple(
            item.attrib["name"] for item in element.findall("arg") if item.get("direction") == "in"
        ),
        reads=notes.get(_READS) == "true",
    )


def _signature(element: ET.Element, direction: str | None) -> str:
    return "".join(
        item.attrib["type"] for item in element.findall("arg") if item.get("direction") == direction
    )
