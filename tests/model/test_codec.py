"""What a stored or received value is refused for: it names the field, however deep it lies."""

import pytest

from p2vd.copying.asking import AskRequest
from p2vd.copying.opening import OpenReply, OpenRequest
from p2vd.model.codec import from_dict, to_dict

SOURCE = {"devnode": "/dev/sda", "size_bytes": 512, "sector_size": 512}
IMAGE = {"path": "/srv/a.gz", "file_id": "1:2", "format": "gz"}


@pytest.mark.parametrize(
    ("cls", "data", "problem"),
    [
        (OpenRequest, {"source": {**SOURCE, "size_bytes": "5"}}, "source.size_bytes: '5' is no int"),
        (OpenRequest, {"source": {**SOURCE, "image": None}}, "source.image: None is no bool"),
        (
            OpenRequest,
            {"source": {**SOURCE, "path_devices": ["sda", 3]}},
            "source.path_devices[1]: 3 is no str",
        ),
        (
            OpenRequest,
            {"source": {**SOURCE, "transport": "q"}},
            "source.transport: 'q' is not a valid Transport",
        ),
        (OpenRequest, {}, "source is missing"),
        (
            AskRequest,
            {"images": [IMAGE, {"path": 1}], "worker_uid": 1, "worker_gid": 1},
            "images[1].path: 1 is no str; images[1].file_id is missing; images[1].format is missing",
        ),
        (OpenReply, {"ok": "no"}, "ok: 'no' is no bool"),
    ],
)
def test_what_does_not_fit_is_named(cls: type[object], data: object, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_dict(cls, data)
    assert str(caught.value) == f"not a valid {cls.__name__}: {problem}"


@pytest.mark.parametrize("data", [None, 5, "ok", [], [{"ok": True}]])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"^not a valid OpenReply: "):
        from_dict(OpenReply, data)


def test_what_a_newer_version_says_too_is_passed_over() -> None:
    assert from_dict(OpenReply, {**to_dict(OpenReply(ok=True)), "since": 2}) == OpenReply(ok=True)
