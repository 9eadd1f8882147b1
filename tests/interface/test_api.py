"""The functions that scripts and assistants call, over HTTP, as they call them."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

from neuromerge.progress import Job, Urgency
from tests.interface.fakes import FakeWorkspace

gradio_client = pytest.importorskip("gradio_client")


@pytest.fixture(scope="module")
def client(server: str) -> Any:
    return gradio_client.Client(server, verbose=False)


def picture(size: tuple[int, int] = (32, 32)) -> str:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def test_only_the_useful_functions_are_public(client: Any) -> None:
    named = client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/merge_summary", "/accuracy", "/interference", "/between_tasks", "/drift", "/classify"}
    assert all(endpoint["description"] for endpoint in named.values())


def test_merge_summary(client: Any) -> None:
    told = client.predict(["digits", "flags"], "neuromerging", {"trim_ratio": 0.5}, api_name="/merge_summary")
    assert told["tasks"] == ["digits", "flags"]
    assert told["parameters"]["trim_ratio"] == 0.5
    assert told["lambda_orthogonal"] == pytest.approx(1 / (1 - told["sigma"]))


def test_accuracy_marks_what_was_merged(client: Any) -> None:
    told = client.predict(["digits"], "ties", None, "quick", api_name="/accuracy")
    assert told["tasks"]["digits"]["merged"]
    assert not told["tasks"]["flags"]["merged"]
    assert 0 <= told["tasks"]["flags"]["merge"]["accuracy"] <= 1


def test_interference_leaves_out_what_does_not_apply(client: Any) -> None:
    rows = client.predict("cancellation", api_name="/interference")
    assert {"layer", "matrix", "parallel", "orthogonal"} == set(rows[0])
    assert any(row["parallel"] is None for row in rows)
    assert not any(row["parallel"] is None and row["orthogonal"] is None for row in rows)


def test_between_tasks_has_every_pair_and_what_each_task_keeps(client: Any) -> None:
    told = client.predict("block 2", "fc1", ["digits", "flags", "food"], api_name="/between_tasks")
    assert [pair["tasks"] for pair in told["pairs"]] == [["digits", "flags"], ["digits", "food"], ["flags", "food"]]
    assert {"parallel", "orthogonal", "both"} == set(told["kept"]["digits"])
    assert told["pairs"][0]["most_in"]["matrix"] == "fc1"


def test_drift_has_a_row_for_every_block_and_task(client: Any) -> None:
    rows = client.predict(["digits", "flags"], api_name="/drift")
    assert len({(row["block"], row["task"]) for row in rows}) == len(rows) == 12
    assert all(row["drift"] >= 0 and row["pictures"] == 16 for row in rows)


def test_classify_with_and_without_a_data_prefix(client: Any) -> None:
    for image in (picture(), "data:image/png;base64," + picture()):
        told = client.predict(image, ["cat", "dog"], api_name="/classify")
        assert set(told["This merge"]) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("arguments", "name", "message"),
    [
        ((["nonsense"],), "/merge_summary", "nonsense"),
        ((None, "magic"), "/merge_summary", "magic"),
        ((None, "neuromerging", {"trim_ratio": 7}), "/merge_summary", "trim_ratio"),
        ((None, "neuromerging", {"bogus": 1}), "/accuracy", "bogus"),
        (("nothing",), "/interference", "measure"),
        (("not base64!", ["a", "b"]), "/classify", "base64"),
        ((base64.b64encode(b"no picture").decode(), ["a", "b"]), "/classify", "picture"),
        ((picture((600, 600)), ["a", "b"]), "/classify", "pixels"),
        ((picture(), ["a"]), "/classify", "two class names"),
        ((picture(), ["a", "b"], "no place"), "/classify", "prompt"),
    ],
)
def test_bad_arguments_come_back_as_sentences(client: Any, arguments: tuple[Any, ...], name: str, message: str) -> None:
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        client.predict(*arguments, api_name=name)


def test_classify_tells_what_the_text_tower_does_not_read(client: Any) -> None:
    told = client.predict(picture(), ["cat", "ñandú"], api_name="/classify")
    assert told["notes"] == ["The text tower does not know all of “ñandú”."]
    assert "notes" not in client.predict(picture(), ["cat", "dog"], api_name="/classify")


@pytest.mark.parametrize(
    ("method", "endpoint", "arguments"),
    [
        ("summary", "/merge_summary", ()),
        ("board", "/accuracy", ()),
        ("heatmap", "/interference", ()),
        ("between_tasks", "/between_tasks", ()),
        ("drift", "/drift", ()),
        ("classify", "/classify", (picture(), ["cat", "dog"])),
    ],
)
def test_a_call_takes_turns_with_the_page_as_its_address(
    client: Any, monkeypatch: pytest.MonkeyPatch, method: str, endpoint: str, arguments: tuple[Any, ...]
) -> None:
    jobs: list[Job] = []
    answer = getattr(FakeWorkspace, method)

    def noted(*args: Any, job: Job, **kwargs: Any) -> Any:
        jobs.append(job)
        return answer(*args, job=job, **kwargs)

    monkeypatch.setattr(FakeWorkspace, method, noted)
    client.predict(*arguments, api_name=endpoint)
    assert [(job.owner, job.urgency) for job in jobs] == [("127.0.0.1", Urgency.SOON)]


def test_a_call_without_all_values_is_told_their_names(server: str) -> None:
    import httpx

    with httpx.Client(base_url=server, timeout=60) as plain:
        number = plain.post("/gradio_api/call/classify", json={"data": [picture(), ["a", "b"]]}).json()["event_id"]
        said = plain.get(f"/gradio_api/call/classify/{number}").text
    assert (
        "classify takes 8 values (image, class_names, prompt, tasks, method, parameters, seed, family), not 2" in said
    )
