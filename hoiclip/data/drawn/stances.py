"""Poses by name: standing, walking, running, bending, kicking, throwing. Hands and seats are acts.py's business."""

from __future__ import annotations

import math

from hoiclip.data.drawn.skeleton import SOLE, Pose, mix

STRIDE = 0.62
"""Body heights that one full walking cycle (two steps) covers."""
RUN_STRIDE = 0.85

STAND = Pose().planted()
BEND = Pose(hip_height=0.36, lean=1.1, nod=-0.1, near_arm=(0.3, 0.5), far_arm=(0.2, 0.4)).with_feet(
    near=(0.1, -SOLE), far=(-0.06, -SOLE)
)
"""Bent down so far that the hands come close to the ground."""
STOOP = Pose(hip_height=0.46, lean=0.7, near_arm=(0.3, 0.6), far_arm=(-0.2, 0.3)).with_feet(
    near=(0.12, -SOLE), far=(-0.1, -SOLE)
)
SURF = Pose(hip_height=0.41, lean=0.22, nod=-0.1, near_arm=(-1.2, -0.9), far_arm=(1.1, 1.4)).with_feet(
    near=(0.14, -SOLE), far=(-0.14, -SOLE)
)
"""Knees bent, arms out for balance, on a board."""
WIND_UP = Pose(
    lean=0.1, near_arm=(0.7, 1.1), far_arm=(-0.8, -0.5), near_leg=(-0.6, -1.5), far_leg=(0.15, 0.05)
).planted()
KICK = Pose(
    lean=-0.12, near_arm=(-0.8, -0.4), far_arm=(0.8, 1.2), near_leg=(0.95, 0.85), far_leg=(-0.1, -0.25)
).planted()
THROW_BACK = Pose(
    lean=-0.18, near_arm=(3.0, 4.1), far_arm=(1.1, 1.3), near_leg=(-0.3, -0.45), far_leg=(0.3, 0.1)
).planted()
THROW_OUT = Pose(
    lean=0.22, near_arm=(1.6, 1.9), far_arm=(-0.5, -0.1), near_leg=(0.35, 0.05), far_leg=(-0.35, -0.55)
).planted()


def walk(phase: float, *, run: bool = False) -> Pose:
    """One moment of the walking or running cycle; `phase` in radians, one turn per two steps."""
    swing, lift, lean = (0.75, 1.15, 0.2) if run else (0.42, 0.65, 0.04)
    near, far = _stepping(phase, swing, lift), _stepping(phase + math.pi, swing, lift)
    arm, bent = (0.8, 1.3) if run else (0.4, 0.25)
    return Pose(
        lean=lean,
        near_leg=near,
        far_leg=far,
        near_arm=(-arm * math.sin(phase), -arm * math.sin(phase) + bent),
        far_arm=(arm * math.sin(phase), arm * math.sin(phase) + bent),
    ).planted()


def kick(progress: float) -> Pose:
    """From the wind-up (0) through the ball (0.5) and back to standing (1)."""
    if progress < 0.5:
        return mix(WIND_UP, KICK, eased(2 * progress)).planted()
    return mix(KICK, STAND, eased(2 * progress - 1)).planted()


def throw(progress: float) -> Pose:
    """From the arm drawn back (0) to the release (1)."""
    return mix(THROW_BACK, THROW_OUT, eased(progress)).planted()


def eased(share: float) -> float:
    """0 to 1 with a soft start and end; anything outside is held."""
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)


def _stepping(phase: float, swing: float, lift: float) -> tuple[float, float]:
    thigh = swing * math.sin(phase)
    # The knee bends while the leg comes forward, and hardly while it carries the body.
    return thigh, thigh - 0.06 - lift * max(0.0, math.cos(phase)) ** 2
