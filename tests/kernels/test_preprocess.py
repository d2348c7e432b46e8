"""The compiled preprocessing against PIL: the same bytes, so the same floats, whatever the size."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hoiclip_kernels.preprocess import Inputs, Nv12, Plan, Yuv420, example_inputs, numba_impl, preprocess
from hoiclip_kernels.preprocess.nv12 import rgb_of
from hoiclip_kernels.preprocess.plan import fitted, resized_hw
from hoiclip_kernels.preprocess.reference import CLIP_TABLE, DETECTOR_TABLE, normalised


def poisoned(plan: Plan) -> Inputs:
    out = Inputs.empty(plan)
    out.detector_chw.fill(np.nan)
    out.clip_chw.fill(np.nan)
    out.mask_hw.view(np.uint8).fill(3)
    return out


def plan_of(height: int, width: int, short: int, padded_hw: tuple[int, int] | None = None, clip_side: int = 24) -> Plan:
    image_hw = resized_hw(height, width, short, short * 5 // 3)
    return Plan((height, width), fitted(image_hw, padded_hw or image_hw), padded_hw or image_hw, clip_side)


def frame_of(form: str, source_hw: tuple[int, int], seed: int = 0) -> np.ndarray | Nv12 | Yuv420:
    frame = example_inputs(source_hw, nv12=form != "rgb", seed=seed)
    return in_planes(frame) if form == "yuv420" and isinstance(frame, Nv12) else frame


def in_planes(frame: Nv12, padding: int = 5) -> Yuv420:
    """The same pixels as a decoder lays them out: rows are padded."""
    planes = (frame.y_hw, frame.uv_hw2[..., 0], frame.uv_hw2[..., 1])
    y, u, v = (np.pad(plane, ((0, 0), (0, padding)), constant_values=255)[:, :-padding] for plane in planes)
    return Yuv420(y, u, v, frame.matrix, frame.full_range)


def assert_same(frame: np.ndarray | Nv12 | Yuv420, plan: Plan) -> None:
    expected = preprocess(frame, plan, poisoned(plan), implementation="reference")
    found = preprocess(frame, plan, poisoned(plan), implementation="numba")
    for name, theirs, ours in zip(Inputs._fields, expected, found, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{name} of {plan}")


@pytest.mark.parametrize("form", ["rgb", "nv12", "yuv420"])
@pytest.mark.parametrize(
    "plan",
    [
        plan_of(720, 1280, 480, (480, 640), 224),
        plan_of(1080, 1920, 800, None, 224),  # the official size
        plan_of(480, 640, 480, (480, 640), 224),  # nothing to resize
        plan_of(97, 131, 48, (64, 96)),  # off every tile
        plan_of(48, 33, 200),  # grows
        plan_of(1, 1, 32),
        plan_of(1, 400, 32),
        plan_of(400, 1, 32),  # CLIP's image is cut before it is resized
        plan_of(600, 17, 40, (64, 64)),
        Plan((2160, 3840), (135, 240), (160, 256), 64),  # widest filters
    ],
    ids=str,
)
def test_both_images_are_the_reference_s_bit_for_bit(plan: Plan, form: str, seed: int) -> None:
    assert_same(frame_of(form, plan.source_hw, seed), plan)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    pad=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    form=st.sampled_from(("rgb", "nv12", "yuv420")),
    full=st.booleans(),
)
def test_any_size_to_any_other(
    size: tuple[int, int], image: tuple[int, int], pad: tuple[int, int], form: str, full: bool
) -> None:
    frame = frame_of(form, size)
    if not isinstance(frame, np.ndarray):
        frame = frame._replace(matrix="bt601", full_range=full)
    assert_same(frame, Plan(size, image, (image[0] + pad[0], image[1] + pad[1]), 16))


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_bands_of_several_threads_meet_without_a_seam(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_impl, "_most_threads", lambda: threads)
    monkeypatch.setattr(numba_impl, "_WORTH_A_THREAD", 1)
    for form in ("rgb", "yuv420"):
        assert_same(frame_of(form, (123, 211)), plan_of(123, 211, 50, (64, 96)))
        assert_same(frame_of(form, (7, 5)), plan_of(7, 5, 3))


def test_several_threads_may_call_at_once() -> None:
    plan = plan_of(300, 400, 96, (96, 160))
    frames = [example_inputs(plan.source_hw, seed=i) for i in range(4)]
    expected = [preprocess(frame, plan, implementation="reference") for frame in frames]
    found: dict[int, list[Inputs]] = {i: [] for i in range(4)}

    def work(i: int) -> None:
        found[i] = [preprocess(frames[i], plan, implementation="numba") for _ in range(20)]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, theirs in enumerate(expected):
        assert len(found[i]) == 20
        for ours in found[i]:
            np.testing.assert_array_equal(ours.detector_chw, theirs.detector_chw)
            np.testing.assert_array_equal(ours.clip_chw, theirs.clip_chw)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_process_has_threads_of_its_own() -> None:
    plan = plan_of(800, 900, 96)
    frame = example_inputs(plan.source_hw)
    preprocess(frame, plan)  # starts the threads of this process
    child = os.fork()
    if child == 0:
        preprocess(frame, plan)
        os._exit(0)
    waiter = threading.Timer(30, lambda: os.kill(child, 9))
    waiter.start()
    status = os.waitpid(child, 0)[1]
    waiter.cancel()
    assert os.waitstatus_to_exitcode(status) == 0


def test_view_is_as_good_as_a_copy() -> None:
    wide = example_inputs((60, 160))
    assert isinstance(wide, np.ndarray)
    view = wide[:, ::2]
    plan = plan_of(60, 80, 32)
    np.testing.assert_array_equal(preprocess(view, plan).detector_chw, preprocess(view.copy(), plan).detector_chw)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_planes_are_their_rgb_but_for_rounding(matrix: str, full_range: bool) -> None:
    """Both orders are the same linear map where no colour is clipped and colours change slowly. Planes are rounded
    twice, by half a level each: in RGB 1.2 levels of brightness and 2.2 of colour. RGB is rounded three times: 1.5.
    """
    rng = np.random.default_rng(0)
    low, step = (0.0, 1.0) if full_range else (16.0, 219 / 255)
    y = low + step * np.clip(128 + rng.normal(0, 25, (90, 160)), 70, 185)
    slope = np.linspace(-25, 25, 80)
    uv = np.stack([np.tile(128 + slope, (45, 1)), np.tile(128 - slope, (45, 1))], axis=-1)
    frame = Nv12(y.astype(np.uint8), uv.astype(np.uint8), matrix, full_range)  # type: ignore[arg-type]
    rgb, plan = rgb_of(frame), plan_of(90, 160, 36)
    assert rgb.min() > 0
    assert rgb.max() < 255
    theirs, ours = (preprocess(image, plan).detector_chw for image in (rgb, in_planes(frame)))
    levels = np.abs(ours - theirs) / (DETECTOR_TABLE[:, 1] - DETECTOR_TABLE[:, 0])[:, None, None]
    assert levels.max() < 4.9
    assert levels.mean() < 0.6


@pytest.mark.parametrize("layout", ["reversed columns", "reversed rows", "every other column"])
def test_planes_of_any_layout_are_read(layout: str) -> None:
    wide = in_planes(example_inputs((40, 60), nv12=True))  # type: ignore[arg-type]
    views = {"reversed columns": np.s_[:, ::-1], "reversed rows": np.s_[::-1], "every other column": np.s_[:, ::2]}
    frame = wide._replace(**{name: getattr(wide, name)[views[layout]] for name in ("y_hw", "u_hw", "v_hw")})
    assert_same(frame, plan_of(*frame.y_hw.shape, 16))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
def test_nv12_greys_and_primaries(matrix: str, full_range: bool) -> None:
    low, high = (0, 255) if full_range else (16, 235)
    y = np.array([[low, low, high, high]] * 2, np.uint8)
    grey = Nv12(y, np.full((1, 2, 2), 128, np.uint8), matrix, full_range)  # type: ignore[arg-type]
    assert rgb_of(grey)[0].tolist() == [[0] * 3, [0] * 3, [255] * 3, [255] * 3]
    kr, kb = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}[matrix]
    scale_y, scale_c = (255, 255) if full_range else (219, 224)
    for rgb in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90)):
        r, g, b = (one / 255 for one in rgb)
        luma = kr * r + (1 - kr - kb) * g + kb * b
        u, v = (b - luma) / (2 - 2 * kb), (r - luma) / (2 - 2 * kr)
        planes = round(low + scale_y * luma), round(128 + scale_c * u), round(128 + scale_c * v)
        uv = np.clip(np.array([[planes[1:]]]), 0, 255).astype(np.uint8)
        found = rgb_of(Nv12(np.full((2, 2), planes[0], np.uint8), uv, matrix, full_range))  # type: ignore[arg-type]
        np.testing.assert_allclose(found[0, 0].astype(int), rgb, atol=3)  # planes are bytes too


def test_reference_is_pil_s_resize_where_pil_goes_across_first(seed: int) -> None:
    frame = example_inputs((90, 160), seed=seed)
    assert isinstance(frame, np.ndarray)
    plan = plan_of(90, 160, 48, clip_side=32)
    image = Image.fromarray(frame).resize(plan.image_hw[::-1], Image.Resampling.BILINEAR)
    small = image.resize(plan.cut.resized_hw[::-1], Image.Resampling.BICUBIC)
    left, top = plan.cut.left, plan.cut.top
    made = preprocess(frame, plan, implementation="reference")
    np.testing.assert_array_equal(made.detector_chw, normalised(np.asarray(image), DETECTOR_TABLE))
    small = small.crop((left, top, left + 32, top + 32))
    np.testing.assert_array_equal(made.clip_chw, normalised(np.asarray(small), CLIP_TABLE))


def test_what_does_not_fit_the_plan_is_refused() -> None:
    plan = plan_of(20, 30, 16)
    with pytest.raises(ValueError, match="expected an RGB image"):
        preprocess(np.zeros((20, 31, 3), np.uint8), plan)
    with pytest.raises(ValueError, match="expected an RGB image"):
        preprocess(np.zeros((20, 30, 3), np.float32), plan)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected NV12 planes"):
        preprocess(Nv12(np.zeros((20, 30), np.uint8), np.zeros((10, 15), np.uint8)), plan)
    halves = np.zeros((10, 15), np.uint8)
    with pytest.raises(ValueError, match="expected planes of a 4:2:0 frame"):
        preprocess(Yuv420(np.zeros((20, 30), np.uint8), halves, halves[:, :14]), plan)
    with pytest.raises(ValueError, match="expected planes of a 4:2:0 frame"):
        preprocess(Yuv420(np.zeros((20, 30), np.uint16), halves, halves), plan)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected arrays for"):
        preprocess(np.zeros((20, 30, 3), np.uint8), plan, Inputs.empty(plan_of(20, 30, 17)))
    with pytest.raises(ValueError, match="expected a padded size"):
        Plan((20, 30), (16, 24), (16, 20), 8)
    with pytest.raises(ValueError, match="at least 1 px"):
        Plan((20, 30), (16, 0), (16, 20), 8)
