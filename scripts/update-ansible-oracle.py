"""Asks ansible-core what inventories, host patterns, templates, tags and YAML mean. Run by scripts/update-ansible-core.ts.

One JSON job a line on standard input, one JSON answer a line on standard output. Each job runs in a fork, because
Ansible keeps what it has read in module variables.
"""

import datetime
import json
import os
import sys
import tempfile

os.environ.setdefault('ANSIBLE_DEPRECATION_WARNINGS', 'False')

from ansible.cli.inventory import InventoryCLI  # noqa: E402
from ansible._internal._datatag._tags import TrustedAsTemplate  # noqa: E402
from ansible._internal._templating._engine import TemplateEngine  # noqa: E402
from ansible.inventory.manager import InventoryManager  # noqa: E402
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.parsing.utils.yaml import from_yaml  # noqa: E402
from ansible.parsing.vault import EncryptedString  # noqa: E402
from ansible.playbook.play import Play  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402
from ansible.utils.display import Display  # noqa: E402


def inventory(job):
    """The output of ansible-inventory with these arguments."""
    InventoryCLI.cli_executor(['ansible-inventory'] + job['args'])


def patterns(job):
    """The hosts of each [pattern, limit], or null where Ansible refuses it."""
    answers = []
    for pattern, limit in job['patterns']:
        manager = InventoryManager(loader=DataLoader(), sources=job['sources'])
        try:
            manager.subset(limit)
            answers.append([host.name for host in manager.get_hosts(pattern)])
        except Exception:
            answers.append(None)
    print(json.dumps(answers))


def trusted(value):
    if isinstance(value, str):
        return TrustedAsTemplate().tag(value)
    if isinstance(value, list):
        return [trusted(item) for item in value]
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    return value


def templates(job):
    """The value of each template, as {"value": …}, or the first words of Ansible's error as {"error": …}; one a line."""
    answers = []
    for template in job['templates']:
        try:
            value = TemplateEngine(loader=DataLoader(), variables=trusted(job['variables'])).template(trusted(template))
            answers.append(json.dumps({'value': value}))
        except Exception as error:
            answers.append(json.dumps({'error': str(error).split('\n')[0][:120]}))
    print('\n'.join(answers))


def plain(value):
    """A value as JSON that tells types apart, also those of keys: as `comparable` in test/inventory has it."""
    if isinstance(value, EncryptedString):
        return {'encrypted': value._ciphertext}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (datetime.date, datetime.datetime)):
        return {'time': value.isoformat()}
    if isinstance(value, (int, float)):
        return {type(value).__mro__[1 if type(value).__module__ != 'builtins' else 0].__name__: repr(value + 0)}
    if isinstance(value, str):
        return {'text' if TrustedAsTemplate.is_tagged_on(value) else 'unsafe': str(value)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {'map': [[{'text': str(key)} if isinstance(key, str) else plain(key), plain(item)] for key, item in value.items()]}
    raise TypeError(f'no value of an inventory: {type(value)}')


def yaml(job):
    """The value of each text, or null where Ansible refuses it; one a line."""
    for name in ('warning', 'deprecated', 'error_as_warning'):
        setattr(Display, name, lambda *args, **kwargs: None)
    for text in job['texts']:
        try:
            value = from_yaml(TrustedAsTemplate().tag(text), file_name='/file', show_content=False)
            print(json.dumps({'value': plain(value)}))
        except Exception as error:
            print(json.dumps({'refused': str(error).split(chr(10))[0][:120]}))


def tags(job):
    """For each [tags, skipped tags]: which of the tasks, each with tags of its own, are run."""
    def task(own):
        play = {'hosts': 'all', 'name': 'tags', 'gather_facts': False, 'tasks': [{'debug': {}, 'tags': own}]}
        return Play.load(play, loader=DataLoader()).tasks[0].block[0]

    tasks = [task(own) for own in job['own']]
    print(json.dumps([
        [bool(one.evaluate_tags(frozenset(only or ['all']), frozenset(skip), {})) for one in tasks]
        for only, skip in job['asked']
    ]))


def run(job):
    os.chdir(job.get('cwd', '.'))
    {'inventory': inventory, 'patterns': patterns, 'templates': templates, 'tags': tags, 'yaml': yaml}[job['kind']](job)


def answer(job):
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            code = 1
            try:
                run(job)
                code = 0
            except SystemExit as ending:
                code = ending.code or 0
            except BaseException as error:
                sys.stderr.write(str(error))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        errors.seek(0)
        return {
            'code': os.waitstatus_to_exitcode(status),
            'stdout': output.read().decode(),
            'stderr': errors.read().decode(errors='replace'),
        }


if __name__ == '__main__':
    init_plugin_loader([])
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
