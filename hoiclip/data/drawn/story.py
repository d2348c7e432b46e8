"""The story of the demo clip: somebody cycles past, a traveller rests on a chair, a player is busy with a ball.

Each part is a plain function of script time, so any frame can be asked for by itself, at any frame rate. The script
takes SCRIPT_S seconds; clip.py stretches it to the clip's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hoiclip.data.drawn import acts, stances
from hoiclip.data.drawn.background import Backdrop, BackdropKind
from hoiclip.data.drawn.draw import thing_outlines
from hoiclip.data.drawn.figure import random_look
from hoiclip.data.drawn.gait import along
from hoiclip.data.drawn.repertoire import NO_INTERACTION
from hoiclip.data.drawn.scene import Interaction, Person, Scene, Thing, random_thing
from hoiclip.data.drawn.shapes import Point
from hoiclip.data.drawn.skeleton import Pose, between, joints, mix
from hoiclip.data.drawn.stances import eased

SCRIPT_S = 9.0
_PLACES: tuple[BackdropKind, ...] = ("street", "field", "court", "beach")

Moment = tuple[Person, tuple[Thing, ...], tuple[Interaction, ...]]
Knots = Sequence[tuple[float, float]]
"""(script second, share of the picture's width) of a path, in order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Who and what appears, in which size and colours. Nothing here changes with time."""

    width_px: int
    height_px: int
    backdrop: Backdrop
    cyclist: Person
    bicycle: Thing
    traveller: Person
    suitcase: Thing
    chair: Thing
    umbrella: Thing
    player: Person
    ball: Thing

    def scene_at(self, script_s: float) -> Scene:
        parts = [tell(self, script_s) for tell in (_cyclist, _traveller, _player)]
        return Scene(
            width_px=self.width_px,
            height_px=self.height_px,
            backdrop=self.backdrop,
            people=tuple(person for person, _, _ in parts),
            things=tuple(thing for _, things, _ in parts for thing in things),
            interactions=tuple(done for _, _, doings in parts for done in doings),
        )


def random_story(rng: np.random.Generator, width_px: int, height_px: int) -> Story:
    """A cast for this size of picture."""
    size = min(height_px, 0.75 * width_px)

    def person(id: int, ground_share: float, height_share: float) -> Person:
        ground, height = ground_share * height_px, height_share * size
        return Person(id=id, look=random_look(rng), x_px=0.0, ground_px=ground, height_px=height, depth=ground)

    cyclist, traveller, player = person(1, 0.72, 0.38), person(3, 0.84, 0.46), person(7, 0.96, 0.54)
    chair = random_thing(rng, 5, "chair", traveller.height_px)
    chair = replace(chair, x_px=0.66 * width_px, y_px=traveller.ground_px, facing=-1, depth=traveller.ground_px - 1)
    umbrella = random_thing(rng, 6, "umbrella", 0.95 * traveller.height_px)
    umbrella = replace(umbrella, x_px=0.77 * width_px, angle=1.25, depth=traveller.ground_px - 1)
    lowest = float(thing_outlines(umbrella).points_xy[:, 1].max())
    return Story(
        width_px=width_px,
        height_px=height_px,
        backdrop=Backdrop(kind=_PLACES[rng.integers(len(_PLACES))], seed=int(rng.integers(2**31))),
        cyclist=cyclist,
        bicycle=random_thing(rng, 2, "bicycle", cyclist.height_px),
        traveller=traveller,
        suitcase=random_thing(rng, 4, "suitcase", traveller.height_px),
        chair=chair,
        umbrella=replace(umbrella, y_px=traveller.ground_px - lowest),
        player=player,
        ball=random_thing(rng, 8, "sports_ball", player.height_px),
    )


_TURN_S = 4.6


def _cyclist(story: Story, s: float) -> Moment:
    """Rides through the picture to the right, turns where nobody sees it, and comes back."""
    bicycle, facing = story.bicycle, 1 if s < _TURN_S else -1
    x = story.width_px * (-0.2 + 0.37 * s if facing == 1 else 1.25 - 0.35 * (s - _TURN_S - 0.5))
    wheel_turns = facing * x / (0.19 * bicycle.scale_px)
    bicycle = replace(bicycle, x_px=x, y_px=story.cyclist.ground_px, facing=facing, phase=0.6 * wheel_turns)
    person, bicycle = acts.mount(story.cyclist, bicycle, lean=0.5)
    return person, (bicycle,), (Interaction(person=person.id, thing=bicycle.id, verbs=("ride",)),)


_TO_THE_CHAIR: Knots = ((0.0, 0.06), (2.6, 0.42), (3.5, 0.42), (4.4, 0.6))
_PUT_DOWN_S, _SIT_S, _STAND_S, _PICK_UMBRELLA_S = 3.05, 4.85, 6.35, 7.85


def _traveller(story: Story, s: float) -> Moment:
    """Carries a suitcase, puts it down, sits for a while, takes the umbrella and goes."""
    suitcase, chair, umbrella = story.suitcase, story.chair, story.umbrella
    person, suitcase = _with_suitcase(story, min(s, _PUT_DOWN_S))
    if s > _PUT_DOWN_S:
        person = _arriving(story, s)
    if s > 4.4:
        person = _resting(story, s)
    if s > 6.6:
        person, umbrella = _with_umbrella(story, s)
    doings = {
        suitcase.id: "carry" if s < _PUT_DOWN_S else NO_INTERACTION,
        chair.id: "sit_on" if _SIT_S <= s < _STAND_S else NO_INTERACTION,
        umbrella.id: "hold" if s >= _PICK_UMBRELLA_S else NO_INTERACTION,
    }
    done = tuple(Interaction(person=person.id, thing=thing, verbs=(verb,)) for thing, verb in doings.items())
    return person, (suitcase, chair, umbrella), done


def _arriving(story: Story, s: float) -> Person:
    """On the way to the chair, bent over the suitcase for a moment."""
    x_px, pose = _gait(story, story.traveller, s, _TO_THE_CHAIR)
    bent = eased((s - 2.6) / 0.4) * (1 - eased((s - _PUT_DOWN_S) / 0.4))
    return replace(story.traveller, x_px=x_px, pose=mix(pose, stances.STOOP, 0.7 * bent).planted())


def _with_suitcase(story: Story, s: float) -> tuple[Person, Thing]:
    """The handle sinks to where the suitcase stands on the ground."""
    down = eased((s - 2.6) / (_PUT_DOWN_S - 2.6))
    return acts.hold(_arriving(story, s), story.suitcase, between((0.1, -0.485), (0.18, -0.425), down))


def _resting(story: Story, s: float) -> Person:
    """Turns round, sits down, gets up again; the feet stay where they are."""
    seated, _ = acts.sit(story.traveller, story.chair)
    standing_x = seated.x_px + seated.facing * 0.22 * seated.height_px
    arrived_x = _TO_THE_CHAIR[-1][1] * story.width_px
    low = eased((s - 4.45) / 0.5) * (1 - eased((s - 6.1) / 0.45))
    from_x = arrived_x + (standing_x - arrived_x) * eased((s - 4.4) / 0.3)
    return replace(
        seated, x_px=from_x + (seated.x_px - from_x) * low, pose=mix(stances.STAND, seated.pose, low), facing=-1
    )


def _with_umbrella(story: Story, s: float) -> tuple[Person, Thing]:
    """Walks to the umbrella, bends, and leaves under it."""
    width, height = story.width_px, story.traveller.height_px
    grip_px = story.umbrella.anchor_px("grip")
    beside = (grip_px[0] - 0.3 * height) / width
    path = ((6.6, _resting(story, 6.6).x_px / width), (7.5, beside), (8.1, beside), (SCRIPT_S, beside + 0.15))
    x_px, pose = _gait(story, story.traveller, s, path)
    bent = eased((s - 7.45) / 0.4) * (1 - eased((s - _PICK_UMBRELLA_S) / 0.4))
    person = replace(story.traveller, x_px=x_px, facing=1, pose=mix(pose, stances.BEND, bent).planted())
    stretch = eased((s - 7.5) / (_PICK_UMBRELLA_S - 7.5))
    if s < _PICK_UMBRELLA_S:
        hand = between(joints(person.pose).near_hand, person.point_body(grip_px), stretch)
        return replace(person, pose=person.pose.with_arms(near=hand)), story.umbrella
    raised = eased((s - _PICK_UMBRELLA_S) / 0.5)
    hand = between(person.point_body(grip_px), (0.15, -0.66), raised)
    return acts.hold(person, story.umbrella, hand, angle=story.umbrella.angle * (1 - raised) + 0.04)


_RUN_UP: Knots = ((0.3, 1.02), (1.6, 0.76), (2.7, 0.76), (4.4, 0.3))
_KICK_S, _CONTACT = 1.7, 0.36
_KICKED_S = _KICK_S + _CONTACT
_GRASP_S, _THROW_S, _RELEASE_S = 4.95, 6.1, 6.95
_ROLL_S = 2.2


def _player(story: Story, s: float) -> Moment:
    """Runs up, kicks the ball, runs after it, picks it up, holds it and throws it away."""
    x_px, pose = _gait(story, story.player, s, _RUN_UP, run=True)
    person = replace(story.player, x_px=x_px, facing=-1, pose=_playing(s, pose))
    ball = story.ball
    if s < _GRASP_S:
        x, y = _rolling_ball(story, s)
        ball = replace(ball, x_px=x, y_px=y, angle=-x / (0.075 * ball.scale_px), depth=person.depth + acts.IN_HAND)
        stretch = eased((s - 4.6) / (_GRASP_S - 4.6))
        hand = between(joints(person.pose).near_hand, person.point_body((x, y)), stretch)
        if stretch > 0:
            person = replace(person, pose=person.pose.with_arms(near=hand, far=hand))
    elif s < _RELEASE_S:
        person, ball = _with_ball(story, person, s)
    else:
        ball = _thrown_ball(story, s)
    verb = _verb_at(s, ((1.9, 2.4, "kick"), (4.7, 5.3, "pick_up"), (5.3, 6.35, "hold"), (6.35, 7.15, "throw")))
    return person, (ball,), (Interaction(person=person.id, thing=ball.id, verbs=(verb,)),)


def _playing(s: float, running: Pose) -> Pose:
    """The body of the player, before the hands find the ball."""
    if s < 2.7:
        kicking = stances.kick((s - _KICK_S) / 1.0) if s >= _KICK_S else stances.WIND_UP
        return mix(running, kicking, eased((s - 1.45) / 0.25)).planted()
    if s < _THROW_S:
        bent = eased((s - 4.45) / 0.45) * (1 - eased((s - _GRASP_S - 0.05) / 0.45))
        return mix(running, stances.BEND, bent).planted()
    swung = stances.throw((s - 6.75) / 0.35)
    return mix(mix(stances.STAND, swung, eased((s - _THROW_S) / 0.6)), stances.STAND, eased((s - 7.2) / 0.5)).planted()


def _ball_start(story: Story) -> Point:
    """On the ground, where the kicking foot meets it."""
    player, radius = story.player, 0.075 * story.ball.scale_px
    ankle = joints(stances.kick(_CONTACT)).near_ankle
    x = _RUN_UP[1][1] * story.width_px - (ankle[0] + 0.07) * player.height_px - radius
    return x, player.ground_px - radius


def _rolling_ball(story: Story, s: float) -> Point:
    """Waiting, flying in three bounces, lying."""
    x, y = _ball_start(story)
    share = min(1.0, max(0.0, (s - _KICKED_S) / _ROLL_S))
    end_x = _RUN_UP[-1][1] * story.width_px - 0.34 * story.player.height_px
    lift = 0.0
    for start, end, height in ((0.0, 0.5, 0.32), (0.5, 0.8, 0.16), (0.8, 1.0, 0.05)):
        if start <= share < end:
            along = (share - start) / (end - start)
            lift = 4 * height * along * (1 - along) * min(story.height_px, 0.75 * story.width_px)
    return x + (end_x - x) * (1 - (1 - share) ** 1.5), y - lift


def _with_ball(story: Story, person: Person, s: float) -> tuple[Person, Thing]:
    """In both hands up to the chest, then in the throwing hand."""
    lying = person.point_body(_rolling_ball(story, _GRASP_S))
    away = eased((s - _THROW_S) / 0.6)
    hand = between(lying, (0.24, -0.6), eased((s - _GRASP_S) / 0.5))
    hand = between(hand, joints(person.pose).near_hand, away)
    far = between(hand, joints(person.pose).far_hand, away)
    person = replace(person, pose=person.pose.with_arms(near=hand, far=far))
    held = replace(story.ball, facing=-1, depth=person.depth + acts.IN_HAND)
    # Arms may be too short for a ball on the ground: it comes to the hands within a moment instead of jumping.
    grasped = between(person.point_px(lying), acts.found_joints(person).near_hand, eased((s - _GRASP_S) / 0.15))
    return person, held.pinned("grip", grasped)


def _thrown_ball(story: Story, s: float) -> Thing:
    """A free throw towards the left edge."""
    x_px, running = _gait(story, story.player, _RELEASE_S, _RUN_UP, run=True)
    player = replace(story.player, x_px=x_px, facing=-1, pose=_playing(_RELEASE_S, running))
    _, ball = _with_ball(story, player, _RELEASE_S)
    flown_s, size = s - _RELEASE_S, min(story.height_px, 0.75 * story.width_px)
    y = ball.y_px + size * (-0.35 * flown_s + 0.6 * flown_s**2)
    floor = player.ground_px - 0.075 * ball.scale_px
    return replace(ball, x_px=ball.x_px - 0.75 * size * flown_s, y_px=min(y, floor), angle=-5 * flown_s)


def _verb_at(s: float, spans: Sequence[tuple[float, float, str]]) -> str:
    return next((verb for start, end, verb in spans if start <= s < end), NO_INTERACTION)


def _gait(story: Story, person: Person, s: float, path: Knots, *, run: bool = False) -> tuple[float, Pose]:
    """Where somebody is on a path, and the moment of the step; the clip begins in mid-step."""
    path_px = [(second, share * story.width_px) for second, share in path]
    person = replace(person, facing=-1 if run else 1)  # the player alone runs, to the left
    return along(person, path_px, s, run=run, moving_in=path[0][0] == 0.0)
