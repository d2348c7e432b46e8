"""hoiclip rules: checks a rules file, and shows its rules as they are understood."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hoiclip_engine.cli import options
from hoiclip_engine.cli.console import messages, results, say, table

if TYPE_CHECKING:
    from hoiclip_engine.events.rules import Rule


EXAMPLES = """\
  hoiclip rules check rules.toml                          keys and values
  hoiclip rules check rules.toml --model drawn            and the words, by the model's vocabulary
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    check = actions.add_parser("check", help="check a rules file, and show its rules as they are understood")
    check.add_argument("rules", type=Path, metavar="FILE.toml")
    check.add_argument("--model", metavar="NAME|FILE", help="check verbs and objects by its vocabulary")
    options.add_vocabulary(check)
    options.add_json(check)
    options.add_log(check)


def run(args: argparse.Namespace) -> int:
    """Checks a rules file; a wrong one is a UsageError with its place."""
    from hoiclip.core.model_file import load_model_file
    from hoiclip_engine.events.rules import read_rules
    from hoiclip_engine.models import find_model

    rules = read_rules(args.rules)
    with_words = args.model or args.vocabulary
    if with_words:
        model = load_model_file(find_model(args.model or "drawn", args.vocabulary))
        rules.check_words(model.vocabulary, str(args.rules))
    if args.json:
        say(json.dumps(rules.as_dict()))
        return 0
    results.print(table("", ("rule", "holds for", "where", "when", "hit"), [_row(rule) for rule in rules]))
    words = "" if with_words else "; verbs and objects were not checked, for want of --model"
    messages.print(f"{args.rules}: {len(rules)} rules{words}")
    return 0


def _row(rule: Rule) -> tuple[str, ...]:
    verbs, objects = (", ".join(words).replace("_", " ") for words in (rule.verbs, rule.objects))
    what = f"{verbs or 'any verb'}: {objects or 'any object or none'}"
    what = f"nobody does {what}" if rule.absent else what
    score = f", score from {rule.min_score:g}" if rule.min_score else ""
    return rule.name, what + score, _place(rule), _time(rule), _duration(rule)


def _place(rule: Rule) -> str:
    unit = " px" if rule.unit == "px" else ""
    found = [f"{rule.point} point in a zone of {len(rule.zone)} corners{unit}"] if rule.zone else []
    if rule.line:
        way = "either way" if rule.direction == "any" else f"towards {rule.direction}"
        found.append(f"{rule.point} point crosses a line{unit} {way}")
    if rule.while_present:
        found.append("while a human is there")
    return ", ".join(found) or "anywhere"


def _time(rule: Rule) -> str:
    if rule.schedule is None:
        return "always"
    fields = rule.schedule.as_dict()
    return " ".join([",".join(fields["days"]), ",".join(fields["hours"]), fields.get("timezone", "local time")])


def _duration(rule: Rule) -> str:
    least_s = rule.absent_for_s if rule.absent else rule.min_duration_s
    found = ["at the crossing" if rule.line else f"after {least_s:g} s"]
    if not rule.line:
        found.append(f"until {rule.grace_s:g} s without")
        found.append(f"updates every {rule.update_every_s:g} s" if rule.update_every_s else "no updates")
    if rule.cool_down_s:
        found.append(f"none for {rule.cool_down_s:g} s after one")
    return ", ".join(found)
