"""p2vctl policy check: are the policy files right? Asks no daemon.

A file is checked before it is put in force: on a workstation, in a repository's pipeline, before p2vd
runs at all. So the files are read here, by the code that the daemon reads them with, and not handed
to it: it need not parse what any user of the host gives it.
"""

import argparse

from p2vd.cli import render
from p2vd.cli.client import CliError, Exit
from p2vd.config import ConfigInvalid, load, policy_texts, read_file
from p2vd.policy.model import PolicyText
from p2vd.policy.parse import load as load_policies


def check(arguments: argparse.Namespace) -> Exit:
    """Check policy files, and say what is wrong where; works without p2vd."""
    texts = _texts(arguments)
    policies = load_policies(texts)
    errors = policies.errors
    if arguments.json:
        print(
            render.as_json(
                {
                    "Files": [text.path for text in texts],
                    "Rules": [
                        {"Name": rule.name, "File": rule.path, "Line": rule.line} for rule in policies.rules
                    ],
                    "Exports": [export.id for export in policies.exports],
                    "Errors": [
                        {"File": error.path, "Line": error.line, "Key": error.key, "Problem": error.problem}
                        for error in errors
                    ],
                }
            )
        )
    elif errors:
        print("\n".join(str(error) for error in errors))
        print(f"\n{_count(len(errors), 'error')}: none of the rules would be used.")
    else:
        named = f" and {_count(len(policies.exports), 'NBD export')}" if policies.exports else ""
        print(f"{_count(len(policies.rules), 'rule')}{named} in {_count(len(texts), 'file')}, no errors.")
    return Exit.FINDINGS if errors else Exit.OK


def _texts(arguments: argparse.Namespace) -> tuple[PolicyText, ...]:
    if arguments.file is not None:
        return (read_file(arguments.file),)
    try:
        return policy_texts(load(arguments.config))
    except ConfigInvalid as error:
        raise CliError(str(error)) from error


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
